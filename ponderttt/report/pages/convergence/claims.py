"""What the convergence page claims: the same sentences whatever came out."""

import itertools

import numpy as np

from ponderttt.report.display.claims import (
    ABOVE_ZERO,
    NOT_WORSE,
    WITHIN_A_TENTH,
    Claim,
    Evidence,
    paired_gain,
)
from ponderttt.result import Result

Condition = tuple[str, str, str, float]


def claims(result: Result) -> list[Claim]:
    """Rates against theory, more steps against fewer, descent against ascent, the limit."""
    made = result.tables["made"].groupby(["condition", "problem"])[["measured", "theory"]].first()
    worst = float((made["measured"] / made["theory"] - 1).abs().max(skipna=False))
    rate = Claim(
        "On made problems the fitted rate of convergence is the theoretical one.",
        WITHIN_A_TENTH,
        Evidence(worst, float("nan"), float("nan"), len(made)),
    )
    return [rate, *_more_steps(result), *_ascents(result), *_across(result)]


def _more_steps(result: Result) -> list[Claim]:
    steps = result.config["k_values"]
    ways = {
        "next-token": ("next_token", "", "descent"),
        "reconstruction (trained at K = 1)": ("reconstruction", "K = 1", "descent"),
        "reconstruction without norm (trained at K = 1)": ("plain", "K = 1", "descent"),
    }
    found = [
        Claim(
            f"{name}: K = {more} reads what follows better than K = {fewer}.",
            ABOVE_ZERO,
            _better(result, (*condition, more), (*condition, fewer)),
        )
        for name, condition in ways.items()
        for fewer, more in [(0, steps[0]), *itertools.pairwise(steps)]
    ]
    name, condition = list(ways.items())[-1]
    limit = Claim(
        f"{name}: the limit reads what follows better than K = {steps[0]}.",
        ABOVE_ZERO,
        _better(result, (*condition, np.inf), (*condition, steps[0])),
    )
    return [*found, limit]


def _ascents(result: Result) -> list[Claim]:
    found = []
    for name, objective, trained in (
        ("next-token", "next_token", ""),
        ("reconstruction (trained at K = 1)", "reconstruction", "K = 1"),
    ):
        down, up = ((objective, trained, direction, 1) for direction in ("descent", "ascent"))
        found += [
            Claim(
                f"{name}: one step of descent reads better than one of ascent.",
                ABOVE_ZERO,
                _better(result, down, up),
            ),
            Claim(
                f"{name}: one step of ascent reads better than none.",
                ABOVE_ZERO,
                _better(result, up, (objective, trained, "descent", 0)),
            ),
        ]
    descent = ("reconstruction", "K = 1", "descent", 1)
    ascent = ("reconstruction", "ascent, K = 1", "ascent", 1)
    as_well = Claim(
        "reconstruction: a layer trained to ascend, ascending, reads as well as one trained to "
        "descend, descending (K = 1).",
        NOT_WORSE,
        _better(result, ascent, descent),
    )
    return [*found, as_well]


def _across(result: Result) -> list[Claim]:
    one = ("reconstruction", "K = 1", "descent", 1)
    pairs = [
        ("the layer trained at K = 1, taking 1,", one,
         "the one trained without any", ("reconstruction", "rate 0", "descent", 0)),
        ("the layer trained at K = 4, taking 4,", ("reconstruction", "K = 4", "descent", 4),
         "the one trained at K = 1, taking 1", one),
    ]  # fmt: skip
    return [
        Claim(
            f"reconstruction: {name} reads better than {other}.",
            ABOVE_ZERO,
            _better(result, condition, than),
        )
        for name, condition, other, than in pairs
        if condition[3] in result.config["k_values"]
    ]


def _better(result: Result, condition: Condition, than: Condition) -> Evidence:
    """Loss of `than` less that of `condition`, paired by document."""
    keys = ["objective", "trained", "direction", "steps"]
    table = result.tables["outer"].set_index(["source", "document", *keys])["loss"]
    wide = table.unstack(keys)
    return paired_gain(wide[than] - wide[condition])
