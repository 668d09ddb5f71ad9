"""What the oracle page claims: the same sentences whatever came out."""

import numpy as np

from ponderttt.report.display.claims import (
    ABOVE_ZERO,
    CORRELATED,
    NOT_WORSE,
    Claim,
    Evidence,
)
from ponderttt.report.display.gap_claims import available_claims, equal_gain, places
from ponderttt.result import Result


def claims(result: Result) -> list[Claim]:
    """What can be gained, whether one step ahead is enough, and what goes with it."""
    ahead = [
        Claim(
            f"{place}: one-step lookahead has no higher test loss than the oracle at equal cost.",
            NOT_WORSE,
            evidence,
        )
        for place, part in places(result)
        if np.isfinite((evidence := equal_gain(result, part, "one step", "oracle")).effect)
    ]
    return [*available_claims(result), *ahead, *_differences(result), *_difficulty(result)]


def _differences(result: Result) -> list[Claim]:
    """On which kinds of text updating helps more: what an allocation can live on."""
    fixed = result.tables["fixed"]
    stream = result.config["streams"][0]
    part = fixed[(fixed["stream"] == stream) & (fixed["action"] == "UPDATE_4")]
    part = part[part["source"] != "all"].sort_values("gain", ascending=False)
    rows = dict(zip(part["source"], part.to_dict("records"), strict=True))
    return [
        Claim(
            f"{stream}: UPDATE_4 on every unit has lower test loss than SKIP on {source}.",
            ABOVE_ZERO,
            _evidence(rows[source], "gain"),
        )
        for source in rows
    ]


def _difficulty(result: Result) -> list[Claim]:
    table = result.tables["correlations"]
    loss = table[table["feature"] == "log_perplexity"].set_index(["stream", "target"])
    rows = dict(zip(loss.index, loss.to_dict("records"), strict=True))
    targets = {
        "oracle steps": "the number of steps that the oracle takes on it",
        "gain on the next unit": "the gain of one step on the next unit",
    }
    return [
        Claim(
            f"{stream}: the loss of a unit correlates positively with {what}.",
            CORRELATED,
            _evidence(rows[stream, target], "rho"),
        )
        for stream in result.config["streams"]
        for target, what in targets.items()
    ]


def _evidence(row: dict, effect: str) -> Evidence:
    return Evidence(float(row[effect]), float(row["low"]), float(row["high"]), int(row["n"]))
