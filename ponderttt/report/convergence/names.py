"""What the tables of a convergence result contain, and what a page calls it."""

import pandas as pd

PANELS = {
    "next_token": "next-token",
    "reconstruction": "reconstruction",
    "plain": "reconstruction",
}


def labels(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with `panel` (the objective's name) and `way` (how it was trained and steps)."""
    return table.assign(
        panel=table["objective"].map(PANELS),
        way=[
            way_name(*way)
            for way in table[["objective", "trained", "direction"]].itertuples(index=False)
        ],
    )


def way_name(objective: str, trained: str, direction: str) -> str:
    """One way to read, in words."""
    if objective == "next_token":
        return direction
    if trained.startswith("ascent"):
        return "trained to ascend"
    name = f"{'plain, ' if objective == 'plain' else ''}trained at {trained}"
    return f"{name}, ascending" if direction == "ascent" else name
