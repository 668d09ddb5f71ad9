"""What the baselines page claims: the same sentences whatever came out."""

import itertools

from ponderttt.report.display.claims import ABOVE_ZERO, NOT_NEGATIVE, Claim, Evidence, paired_gain
from ponderttt.report.pages.baselines.names import (
    OBJECTIVE_LABELS,
    gains,
    objectives,
    sources,
    updates,
)
from ponderttt.result import Result


def claims(result: Result) -> list[Claim]:
    """What the page claims: the same sentences whatever came out."""
    found = [claim for objective in objectives(result) for claim in _claims_on(result, objective)]
    uniform = result.tables["uniform"]
    margin = float((uniform["nll"] - uniform["bound"]).min())
    floor = Claim(
        "No method has a loss below ln V by more than 3 standard errors on uniform tokens.",
        NOT_NEGATIVE,
        Evidence(margin, float("nan"), float("nan"), len(uniform)),
    )
    return [*found, floor]


def _claims_on(result: Result, objective: str) -> list[Claim]:
    table, actions, label = gains(result), updates(result), OBJECTIVE_LABELS[objective]
    top = actions[-1]
    lowers = [
        Claim(
            f"{label}: {action} has lower test loss than SKIP on {_named(source)}.",
            ABOVE_ZERO,
            Evidence(
                *(table[objective, action, source][key] for key in ("gain", "low", "high", "n"))
            ),
        )
        for action, source in (
            *((action, "all") for action in actions),
            *((top, source) for source in sources(result)[1:]),
        )
    ]
    compared = [
        *((more, (objective, fewer), fewer) for fewer, more in itertools.pairwise(actions)),
        (top, (objective, "rate 0"), "the same adapter trained with the inner rate at zero"),
        (top, ("none", "base x2"), "a window of two units gains over one of one"),
    ]
    return lowers + [
        Claim(
            f"{label}: {action} gains more than {what}.",
            ABOVE_ZERO,
            _differences(result, (objective, action), rival),
        )
        for action, rival, what in compared
        if (*rival, "all") in table
    ]


def _named(source: str) -> str:
    return "the documents of all sources" if source == "all" else f"documents of {source}"


def _differences(result: Result, method: tuple[str, str], over: tuple[str, str]) -> Evidence:
    """Gain of a method less that of `over`, both (objective, name), paired by document."""
    wide = result.tables["documents"].pivot_table(
        index=["source", "path"], columns=["objective", "method"], values="gain"
    )
    return paired_gain((wide[method] - wide[over]).dropna())
