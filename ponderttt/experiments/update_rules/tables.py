"""The tidy tables of the update rules' page, from the bins that were read."""

import numpy as np
import pandas as pd

from ponderttt.evaluation.by_position import by_bin, by_document, over_documents
from ponderttt.evaluation.flops import forward_flops
from ponderttt.experiments.update_rules.search import Search
from ponderttt.prepare.recipes import Recipe
from ponderttt.prepare.repositories import PROSE


def recipes(search: Search, shown: dict[str, Recipe], winner: Recipe) -> pd.DataFrame:
    """One row per recipe: its parts, its stage, and FLOPs a token beside a forward's."""
    config, keys = search.reader.lm.config, search.keys
    forward = forward_flops(config, keys)
    names = {recipe.label: name for name, recipe in shown.items()}
    rows = []
    for label, (stage, recipe) in search.recipes.items():
        flops = recipe.flops(config, keys)
        rows.append(
            {
                "label": label,
                "stage": stage,
                "rule": recipe.rule,
                "rate": recipe.rate,
                "where": recipe.where,
                "blocks": recipe.suffix_blocks,
                "rank": recipe.rank or 0,
                "pull": np.nan if recipe.pull is None else recipe.pull,
                "cadence": recipe.cadence,
                "steps": recipe.steps,
                "read": flops.read / forward,
                "share": sum(flops) / forward,
                "shown": names.get(label, ""),
                "chosen": recipe == winner,
            }
        )
    return pd.DataFrame(rows)


def searched(trials: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """One row per recipe, split and source (and all): gain with its interval by repository."""
    found = [
        over_documents(group, ["label"], "gain", seed=seed).assign(split=split)
        for split, group in trials.groupby("split", sort=False)
    ]
    return pd.concat(found, ignore_index=True)


def tested(bins: pd.DataFrame, diverged: list[int], *, seed: int) -> dict[str, pd.DataFrame]:
    """What the test repositories say; `all` is all code, prose stands by itself."""
    keys = ["source", "repository", "label", "shown"]
    documents = by_document(bins, keys).assign(diverged=diverged)
    is_prose, columns = documents["source"].isin(PROSE), ["gain", "gain_first", "gain_last"]
    found = []
    for part, kept in ((documents[~is_prose], True), (documents[is_prose], False)):
        if part.empty:
            continue
        each = [over_documents(part, ["shown"], name, seed=seed) for name in columns]
        joined = each[0]
        for name, table in zip(columns[1:], each[1:], strict=True):
            bounds = {"low": f"low_{name[5:]}", "high": f"high_{name[5:]}"}
            joined = joined.merge(
                table.rename(columns=bounds).drop(columns="n"), on=["source", "shown"]
            )
        found.append(joined if kept else joined[joined["source"] != "all"])
    code = bins[~bins["source"].isin(PROSE)]
    return {
        "documents": documents,
        "gains": pd.concat(found, ignore_index=True),
        "positions": by_bin(code, ["shown"], seed=seed),
        "stability": stability(documents),
    }


def stability(documents: pd.DataFrame) -> pd.DataFrame:
    """One row per recipe: how many repositories lose, the most that one loses, and diverged."""
    rows = []
    for shown, group in documents.groupby("shown", sort=False):
        worst = group.sort_values("gain", na_position="first").iloc[0]
        rows.append(
            {
                "shown": shown,
                "repositories": len(group),
                "lose": int((group["gain"] < 0).sum()),
                "smallest": float(worst["gain"]),
                "of": f"{worst['source']}: {worst['repository']}",
                "diverged": int((group["diverged"] >= 0).sum()),
            }
        )
    return pd.DataFrame(rows)
