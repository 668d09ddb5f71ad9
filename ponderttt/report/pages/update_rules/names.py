"""What the tables of a result on update rules contain, and what a page calls it."""

import pandas as pd

from ponderttt.result import Result

RULES = {
    "sgd": "plain gradient",
    "normalized": "normalised gradient",
    "rms": "RMS, of this document",
    "rms_sum": "sum of squares, gathered",
    "rms_sum_sqrt": "its root, gathered",
    "adamw": "AdamW, no momentum",
    "newton_schulz": "Newton-Schulz",
    "newton_schulz_1": "Newton-Schulz, 1 iteration",
    "newton_schulz_2": "Newton-Schulz, 2 iterations",
    "newton_schulz_3": "Newton-Schulz, 3 iterations",
}
"""Update rules in words."""


def tried(result: Result, split: str = "train") -> pd.DataFrame:
    """Every recipe with its gain (thousandths of a nat) on a split, all sources weighing alike."""
    search, recipes = result.tables["search"], result.tables["recipes"]
    found = search[(search["split"] == split) & (search["source"] == "all")]
    table = recipes.merge(found[["label", "gain", "low", "high"]], on="label")
    table["rule_name"] = table["rule"].map(RULES)
    return table.assign(**{name: 1e3 * table[name] for name in ("gain", "low", "high")})


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The recipes of `tried` from the best to the worst; one that diverged comes last."""
    return table.sort_values("gain", ascending=False, na_position="last", kind="stable")


def winner(result: Result) -> dict:
    """The recipe that was chosen."""
    recipes = result.tables["recipes"]
    return recipes[recipes["chosen"]].iloc[0].to_dict()


def shown(result: Result) -> dict[str, str]:
    """The recipes that test repositories were read with: their labels by name."""
    recipes = result.tables["recipes"]
    return {
        str(row["shown"]): str(row["label"])
        for row in recipes[recipes["shown"] != ""].to_dict("records")
    }


def gain_of(result: Result, name: str, source: str = "all") -> dict:
    """The row of the table of gains of a recipe on a source."""
    table = result.tables["gains"]
    return table[(table["shown"] == name) & (table["source"] == source)].iloc[0].to_dict()
