"""The tidy tables of the baselines page, from the arrays that were measured."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ponderttt.cache import Arrays
from ponderttt.data import get_tokenizer
from ponderttt.evaluation.statistics import interval_by_source
from ponderttt.prepare.corpora import Texts
from ponderttt.prepare.reader import unit_means
from ponderttt.types import CHUNK_ACTIONS

EXPLORED = 2
"""Documents of each source in the explorer."""


class Measurements(NamedTuple):
    """What was measured: the arrays of (document, method)."""

    methods: Sequence
    arrays: dict[tuple[int, int], Arrays]


def units(texts: Texts, reading: Measurements) -> pd.DataFrame:
    """One row per (document, method, unit): mean loss, tokens, steps, nominal cost."""
    frames = []
    for (i, m), arrays in reading.arrays.items():
        method = reading.methods[m]
        n = len(arrays["token_nll"])
        frames.append(
            pd.DataFrame(
                {
                    "source": texts.sources[i],
                    "document": i,
                    "path": texts.paths[i],
                    "unit": np.arange(n),
                    "objective": method.objective,
                    "method": method.name,
                    "nll": unit_means(arrays["token_nll"], arrays["mask"]).astype(np.float64),
                    "tokens": arrays["mask"].sum(axis=-1),
                    "steps": arrays.get("steps", np.zeros(n, np.int32)),
                    "cost": arrays.get("cost", np.full(n, method.cost)).astype(np.float64),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def with_gain(units: pd.DataFrame) -> pd.DataFrame:
    """`units` with `gain`: the loss under SKIP of the same objective less the loss, nats.

    Rows of the frozen base, and of the adapter trained at rate 0, are compared with what stands
    for SKIP there: the base, and the SKIP of the objective.
    """
    standing = units[units["method"].isin(["SKIP", "base"])]
    reference = standing.set_index(["document", "unit", "objective"])["nll"].rename("reference")
    joined = units.join(reference, on=["document", "unit", "objective"])
    return joined.assign(gain=joined["reference"] - joined["nll"]).drop(columns="reference")


def documents(units: pd.DataFrame) -> pd.DataFrame:
    """One row per (document, method): token-weighted loss, gain over SKIP, mean cost a unit."""
    each = with_gain(units)
    rows = each.assign(loss=each["nll"] * each["tokens"], weighed=each["gain"] * each["tokens"])
    keys = ["source", "document", "path", "objective", "method"]
    sums: pd.DataFrame = rows.groupby(keys, sort=False)[["loss", "weighed", "tokens"]].sum()
    means = rows.groupby(keys, sort=False)[["cost", "steps"]].mean()
    return pd.DataFrame(
        {
            "loss": sums["loss"] / sums["tokens"],
            "gain": sums["weighed"] / sums["tokens"],
            "cost": means["cost"],
            "steps": means["steps"],
        }
    ).reset_index()


def gains(units: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Loss, cost and gain over SKIP with its interval, for each source and for all together.

    `all` weighs every source the same, whatever its number of documents.
    """
    table = documents(units)
    rows = []
    for source in [*dict.fromkeys(table["source"]), "all"]:
        part = table if source == "all" else table[table["source"] == source]
        for (objective, method), group in part.groupby(["objective", "method"], sort=False):
            interval = interval_by_source(group["gain"], group["source"], seed=seed)
            means = group.groupby("source")[["loss", "cost", "steps"]].mean().mean()
            rows.append(
                {"source": source, "objective": objective, "method": method}
                | means.to_dict()
                | {"gain": interval.mean, **interval._asdict()}
            )
    return pd.DataFrame(rows).drop(columns="mean")


def positions(units: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Gain over SKIP by position in the document, with intervals by document."""
    rows = []
    for (objective, method, unit), group in with_gain(units).groupby(
        ["objective", "method", "unit"], sort=False
    ):
        interval = interval_by_source(group["gain"], group["source"], seed=seed)
        rows.append(
            {"objective": objective, "method": method, "unit": unit, "gain": interval.mean}
            | interval._asdict()
        )
    return pd.DataFrame(rows).drop(columns="mean")


def floor(reading: Measurements, vocabulary: int) -> pd.DataFrame:
    """Loss on independent uniform tokens: none may be under ln V by over 3 standard errors."""
    rows = []
    for m, method in enumerate(reading.methods):
        arrays = [a for (_, k), a in reading.arrays.items() if k == m]
        losses = np.concatenate([a["token_nll"][a["mask"]] for a in arrays]).astype(np.float64)
        se = losses.std(ddof=1) / np.sqrt(losses.size)
        nll, bound = losses.mean(), np.log(vocabulary) - 3 * se
        rows.append((method.objective, method.name, nll, se, bound, bool(nll >= bound)))
    return pd.DataFrame(rows, columns=["objective", "method", "nll", "se", "bound", "ok"])


def explorer(texts: Texts, reading: Measurements, tokenizer_name: str) -> pd.DataFrame:
    """One row per (document, unit) of a few documents: the tokens' text and their losses.

    `pieces` lists the unit's tokens as text; `nll_<action>` lists their losses under each action of
    the first objective, and `<action>` is the unit's mean.
    """
    tokenizer = get_tokenizer(tokenizer_name)
    first = next(m.objective for m in reading.methods if m.objective != "none")
    shown = {
        m.name: k
        for k, m in enumerate(reading.methods)
        if m.objective == first and m.name in CHUNK_ACTIONS.names
    }
    rows = []
    for i in texts.first_of_each(EXPLORED):
        tokens = np.asarray(texts.corpus.documents.tokens[i])
        for n, unit in enumerate(tokens):
            row = {"source": texts.sources[i], "path": texts.paths[i], "document": i, "unit": n}
            row["pieces"] = [tokenizer.decode([int(token)]) for token in unit]
            for name, k in shown.items():
                losses = reading.arrays[i, k]["token_nll"][n].astype(np.float64)
                row[f"nll_{name}"] = losses.round(3).tolist()
                row[name] = float(losses.mean())
            rows.append(row | {"objective": first})
    return pd.DataFrame(rows)
