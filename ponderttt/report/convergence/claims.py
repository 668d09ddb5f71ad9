"""What the convergence page claims: the same sentences whatever came out."""

import itertools

import numpy as np

from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.experiments.result import Result
from ponderttt.report.claims import ABOVE_ZERO, WITHIN_A_TENTH, Claim, Evidence
from ponderttt.report.convergence.names import PANELS

Way = tuple[str, str, str, float]


def claims(result: Result) -> list[Claim]:
    """Rates against theory, more steps against fewer, descent against ascent, the limit."""
    made = result.tables["made"].groupby(["condition", "problem"])[["measured", "theory"]].first()
    worst = float((made["measured"] / made["theory"] - 1).abs().max())
    rate = Claim(
        "On made problems the fitted rate of convergence is the theoretical one.",
        WITHIN_A_TENTH,
        Evidence(worst, float("nan"), float("nan"), len(made)),
    )
    return [rate, *_more_steps(result), *_ascents(result), *_across(result)]


def _more_steps(result: Result) -> list[Claim]:
    steps = result.config["k_values"]
    ways = [("next_token", "", "descent"), ("reconstruction", "K = 1", "descent"),
            ("plain", "K = 1", "descent")]  # fmt: skip
    found = []
    for way in ways:
        name = PANELS[way[0]] + (" (plain)" if way[0] == "plain" else "")
        pairs = [(0, steps[0]), *itertools.pairwise(steps)]
        found += [
            Claim(
                f"{name}: K = {more} reads what follows better than K = {fewer}.",
                ABOVE_ZERO,
                _better(result, (*way, more), (*way, fewer)),
            )
            for fewer, more in pairs
        ]
    limit = Claim(
        f"reconstruction (plain): the limit reads what follows better than K = {steps[0]}.",
        ABOVE_ZERO,
        _better(result, (*ways[-1], np.inf), (*ways[-1], steps[0])),
    )
    return [*found, limit]


def _ascents(result: Result) -> list[Claim]:
    found = []
    for objective, trained in (("next_token", ""), ("reconstruction", "K = 1")):
        down, up = (objective, trained, "descent"), (objective, trained, "ascent")
        found += [
            Claim(
                f"{PANELS[objective]}: one step of descent reads better than one of ascent.",
                ABOVE_ZERO,
                _better(result, (*down, 1), (*up, 1)),
            ),
            Claim(
                f"{PANELS[objective]}: one step of ascent reads better than none.",
                ABOVE_ZERO,
                _better(result, (*up, 1), (*up[:2], "descent", 0)),
            ),
        ]
    return found


def _across(result: Result) -> list[Claim]:
    one = ("reconstruction", "K = 1", "descent", 1)
    others = {
        "trained to ascend and ascending": ("reconstruction", "ascent, K = 1", "ascent", 1),
        "trained at K = 4 and taking 4": ("reconstruction", "K = 4", "descent", 4),
    }
    return [
        Claim(
            f"reconstruction: the layer trained at K = 1 and taking 1 reads better than the one "
            f"{name}.",
            ABOVE_ZERO,
            _better(result, one, way),
        )
        for name, way in others.items()
        if way[3] in {*result.config["k_values"], 0}
    ]


def _better(result: Result, way: Way, than: Way) -> Evidence:
    """Loss of `than` less that of `way`, paired by document."""
    keys = ["objective", "trained", "direction", "steps"]
    wide = result.tables["outer"].pivot_table(
        index=["source", "document"], columns=keys, values="loss"
    )
    paired = wide[than] - wide[way]
    groups = [group.to_numpy() for _, group in paired.groupby(level="source", sort=False)]
    return Evidence(*cluster_interval(groups))
