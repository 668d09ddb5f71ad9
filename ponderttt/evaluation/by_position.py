"""Gains by where in a document its tokens are, and their intervals over documents."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from ponderttt.evaluation.statistics import interval_by_source

BINS = 12
"""Parts of equal length that a document is told in; four of them are a third."""


def binned(
    losses: Float[np.ndarray, "T"], base: Float[np.ndarray, "T"], mask: Bool[np.ndarray, "T"]
) -> pd.DataFrame:
    """Sums over the real tokens of each of `BINS` parts of a document: tokens, loss and gain.

    The gain is the loss under `base` less `losses`, in nats.
    """
    bins = np.arange(len(mask)) * BINS // len(mask)
    held, gain = np.where(mask, losses, 0.0), np.where(mask, base - losses, 0.0)
    columns = {"tokens": mask.astype(float), "loss": held, "gain": gain}
    sums = {
        name: np.bincount(bins, weights=np.asarray(values, float), minlength=BINS)
        for name, values in columns.items()
    }
    return pd.DataFrame({"bin": np.arange(BINS), **sums}).astype({"tokens": int})


def by_document(bins: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Loss and gain a token of each document (`keys` tell them apart), whole and by thirds.

    NaN where a loss in it is not a number: no part of a document is left out.
    """
    third = bins["bin"] * 3 // BINS
    parts = {"": bins, **{f"_{name}": bins[third == i] for i, name in enumerate(THIRDS)}}
    columns = {}
    for suffix, part in parts.items():
        grouped = part.groupby(keys, sort=False)[["tokens", "loss", "gain"]]
        sums = grouped.agg(_sum)
        columns[f"gain{suffix}"] = sums["gain"] / sums["tokens"]
        if not suffix:
            columns |= {"tokens": sums["tokens"], "loss": sums["loss"] / sums["tokens"]}
    return pd.DataFrame(columns).reset_index()


def _sum(values: pd.Series):
    return values.sum(skipna=False)


THIRDS = ("first", "second", "last")


def over_documents(
    documents: pd.DataFrame, keys: list[str], column: str, *, seed: int
) -> pd.DataFrame:
    """The mean of a column of `by_document` for each source and for `all`, with its interval.

    `all` weighs every source the same. Documents that are not finite leave nothing: NaN.
    """
    rows = []
    for source in (*dict.fromkeys(documents["source"]), "all"):
        part = documents if source == "all" else documents[documents["source"] == source]
        for found, group in part.groupby(keys, sort=False):
            interval = interval_by_source(_finite(group[column]), group["source"], seed=seed)
            names = dict(zip(keys, found, strict=True))
            rows.append({"source": source, **names, column: interval.mean} | interval._asdict())
    return pd.DataFrame(rows).drop(columns="mean")


def _finite(gain: pd.Series) -> pd.Series:
    """NaN where a gain is infinite: no mean is to be taken of it."""
    return gain.where(np.isfinite(gain))


def by_bin(bins: pd.DataFrame, keys: list[str], *, seed: int) -> pd.DataFrame:
    """Gain a token at each part of the document, every source weighing the same.

    Parts without tokens are left out; those whose loss is not finite leave nothing: NaN.
    """
    real = bins[bins["tokens"] > 0]
    each = real.assign(gain=_finite(real["gain"] / real["tokens"]))
    rows = []
    for found, group in each.groupby([*keys, "bin"], sort=False):
        interval = interval_by_source(group["gain"], group["source"], seed=seed)
        names = dict(zip([*keys, "bin"], found, strict=True))
        rows.append(names | {"gain": interval.mean} | interval._asdict())
    return pd.DataFrame(rows).drop(columns="mean")
