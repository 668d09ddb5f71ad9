"""Gains by position, as charts draw them."""

import pandas as pd

from ponderttt.evaluation.by_position import BINS
from ponderttt.result import Result


def drawn_by_position(table: pd.DataFrame, result: Result) -> pd.DataFrame:
    """A table of `by_bin` with `read`, thousands of tokens, and gains in thousandths of a nat."""
    each = int(result.config["units"]) * int(result.config["unit"]) / BINS / 1000
    return table.assign(
        read=((table["bin"] + 0.5) * each).round(3),
        **{name: (1e3 * table[name]).round(3) for name in ("gain", "low", "high")},
    )
