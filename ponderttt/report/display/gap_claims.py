"""What the pages that compare policies at equal cost claim of the gap, and what they check."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ponderttt.allocation.equal_cost import gain
from ponderttt.report.display.claims import ABOVE_ZERO, Claim, Evidence, Test
from ponderttt.report.display.equal_cost import middle, named
from ponderttt.result import Result

SHARES = Test(ABOVE_ZERO.description, ABOVE_ZERO.decide, "effects are shares of the gap")


def gap_claims(result: Result, methods: list[str]) -> list[Claim]:
    """That each method has lower loss than the best open-loop policy, at the middle budget."""
    table = result.tables["gaps"]
    table = table[table["budget"] == middle(result)]
    return [
        Claim(
            f"{row['stream']}, budget {row['budget']:g}: {named(row['method'])} captures part of "
            "the gap from the best open-loop policy to the oracle.",
            SHARES,
            Evidence(row["share"], row["low"], row["high"], int(row["n"])),
        )
        for row in table.to_dict("records")
        if row["method"] in methods and not np.isnan(row["share"])
    ]


def available_claims(result: Result) -> list[Claim]:
    """That there is a gap at all."""
    return [
        Claim(
            f"{place}: the oracle has lower test loss than the best open-loop policy at equal "
            "cost.",
            ABOVE_ZERO,
            equal_gain(result, part, "oracle", "control"),
        )
        for place, part in places(result)
    ]


def places(result: Result) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every stream and budget as claims name them, with their rows of `documents`."""
    grouped = result.tables["documents"].groupby(["stream", "budget"], sort=False)
    for (stream, budget), part in grouped:
        yield f"{stream}, budget {budget:g}", part


def equal_gain(result: Result, part: pd.DataFrame, method: str, over: str) -> Evidence:
    """What `method` gains over another at equal cost: the interval that every page shows."""
    return Evidence(*gain(part, method, over, seed=result.config["seed"]))


def check_contest(result: Result) -> list[str]:
    """What must hold on every machine of a comparison: shapes, orderings, no measurement."""
    documents, points = result.tables["documents"], result.tables["points"]
    means = documents.dropna(subset="loss").groupby(["stream", "budget", "method"])["loss"].mean()
    table = means.unstack("method")
    others = table.drop(columns="oracle").min(axis=1)
    curve = result.tables["frontier"]
    curves = [
        part.sort_values("cost")["loss"].to_numpy()
        for _, part in curve[curve["method"] == "oracle"].groupby("stream")
    ]
    one = points[points["chosen"]].groupby(["stream", "method", "budget"]).size()
    return [f"{name}: {len(table)} rows" for name, table in sorted(result.tables.items())] + [
        f"methods: {', '.join(documents['method'].unique())}",
        "no method has lower loss than the oracle at equal cost: "
        f"{bool((table['oracle'] <= others + 2e-3).all())}",
        "a larger budget never costs the oracle: "
        f"{all((np.diff(curve) < 1e-6).all() for curve in curves)}",
        f"one candidate of each method is chosen at each budget: {bool((one == 1).all())}",
    ]
