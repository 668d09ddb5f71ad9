"""What the oracle page claims: the same sentences whatever came out."""

from ponderttt.report.display.claims import (
    ABOVE_ZERO,
    CORRELATED,
    NOT_WORSE,
    Claim,
    Evidence,
    paired_gain,
)
from ponderttt.result import Result


def claims(result: Result) -> list[Claim]:
    """What can be gained, whether one step ahead is enough, and what goes with it."""
    table = result.tables["documents"]
    found = []
    for (stream, budget), part in table.groupby(["stream", "budget"], sort=False):
        paired = part.set_index(["source", "document"])
        found += [
            Claim(
                f"{stream}, budget {budget:g}: the oracle has lower test loss than the best "
                f"uninformed control ({paired['control'].iloc[0]}) at equal cost.",
                ABOVE_ZERO,
                paired_gain(paired["control_loss"] - paired["oracle_loss"]),
            ),
            Claim(
                f"{stream}, budget {budget:g}: search one step ahead has no higher test loss than "
                "the oracle at equal cost.",
                NOT_WORSE,
                paired_gain(paired["oracle_loss"] - paired["greedy_loss"]),
            ),
        ]
    return [*found, *_differences(result), *_difficulty(result)]


def _differences(result: Result) -> list[Claim]:
    """On which kinds of text updating helps more: what an allocation can live on."""
    fixed = result.tables["fixed"]
    stream = result.config["streams"][0]
    part = fixed[(fixed["stream"] == stream) & (fixed["action"] == "UPDATE_4")]
    part = part[part["source"] != "all"].sort_values("gain", ascending=False)
    rows = dict(zip(part["source"], part.to_dict("records"), strict=True))
    return [
        Claim(
            f"{stream}: UPDATE_4 on every unit gains on documents of {source}.",
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
        "oracle steps": "steps the oracle takes on it",
        "gain on the next unit": "one step on it gains on the next",
    }
    return [
        Claim(
            f"{stream}: the higher the loss of a unit, the more {what}.",
            CORRELATED,
            _evidence(rows[stream, target], "rho"),
        )
        for stream in result.config["streams"]
        for target, what in targets.items()
    ]


def _evidence(row: dict, effect: str) -> Evidence:
    return Evidence(float(row[effect]), float(row["low"]), float(row["high"]), int(row["n"]))
