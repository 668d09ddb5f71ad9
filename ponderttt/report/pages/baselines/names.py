"""What the tables of a baselines result contain, and what a page calls it."""

from typing import Any

from ponderttt.result import Result

OBJECTIVE_LABELS = {
    "none": "longer window",
    "next_token": "next-token",
    "reconstruction": "reconstruction",
}


def updates(result: Result) -> list[str]:
    """The updating actions of a result in order of their steps: UPDATE_1, UPDATE_2, ..."""
    methods = [m for m in result.tables["gains"]["method"].unique() if m.startswith("UPDATE_")]
    return sorted(methods, key=lambda method: int(method.removeprefix("UPDATE_")))


def objectives(result: Result) -> list[str]:
    """The inner objectives of a result, in the order of its configuration."""
    present = result.tables["gains"]["objective"].unique()
    return [name for name in OBJECTIVE_LABELS if name in present and name != "none"]


def sources(result: Result) -> list[str]:
    """`all`, then the sources in the order in which they were read."""
    names = result.tables["gains"]["source"].unique()
    return ["all", *(name for name in names if name != "all")]


def gains(result: Result) -> dict[tuple[str, str, str], dict[Any, Any]]:
    """Rows of the table of gains by (objective, method, source), in the table's order."""
    rows = result.tables["gains"].to_dict("records")
    return {(row["objective"], row["method"], row["source"]): row for row in rows}
