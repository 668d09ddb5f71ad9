"""What the tables of a convergence result contain, and what a page calls it."""

import pandas as pd

PANELS = {"next_token": "next-token", "reconstruction": "reconstruction", "plain": "reconstruction"}
TRAININGS = {
    ("next_token", ""): "no training",
    ("reconstruction", "K = 1"): "trained at K = 1",
    ("reconstruction", "K = 4"): "trained at K = 4",
    ("reconstruction", "ascent, K = 1"): "trained to ascend, K = 1",
    ("reconstruction", "rate 0"): "trained at rate 0",
    ("plain", "K = 1"): "without norm, trained at K = 1",
}


def labels(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with `panel`, the objective's name, and `training`, that of the slow weights."""
    return table.assign(
        panel=table["objective"].map(PANELS),
        training=[TRAININGS[way] for way in zip(table["objective"], table["trained"], strict=True)],
    )
