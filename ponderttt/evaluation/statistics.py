"""Intervals by whole documents, whose units are never independent, and by whole seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float


class Interval(NamedTuple):
    """A mean with its bootstrap interval; `n` documents. NaN bounds where n < 2."""

    mean: float
    low: float
    high: float
    n: int


def resampled_means(
    values: Float[np.ndarray, "*methods B"],
    sources: Sequence[str] | np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Float[np.ndarray, "*methods resamples"]:
    """Mean over sources of the documents' means, on resamples of the B documents.

    The one bootstrap by document: whole documents are drawn within their source, the same ones for
    all methods, and every source weighs the same.
    """
    table, rng = np.asarray(values, float), np.random.default_rng(seed)
    means = []
    for members in strata(sources):
        drawn = members[rng.integers(0, len(members), (resamples, len(members)))]
        means.append(table[..., drawn].mean(axis=-1))
    return np.mean(means, axis=0)


def strata(sources: Sequence[str] | np.ndarray) -> list[np.ndarray]:
    """Indices of the documents of each source, in order of appearance."""
    names = np.asarray(sources)
    return [np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())]


def cluster_interval(
    groups: Sequence[np.ndarray],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of the mean over groups of the groups' means, one value a document.

    A group is a source (a stratum). For paired differences, hand in each document's difference.
    Percentile method (`resampled_means`), which stays defined for few or equal documents.
    """
    samples = [np.asarray(group, float) for group in groups if len(group)]
    n = sum(len(sample) for sample in samples)
    mean = float(np.mean([sample.mean() for sample in samples])) if samples else float("nan")
    if not samples or min(len(sample) for sample in samples) < 2 or np.isnan(mean):
        return Interval(mean, float("nan"), float("nan"), n)
    if all(np.ptp(sample) == 0 for sample in samples):  # free of the rounding of a mean
        return Interval(mean, mean, mean, n)
    names = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    means = resampled_means(np.concatenate(samples), names, resamples=resamples, seed=seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high), n)


def interval_by_source(
    values: pd.Series, sources: pd.Series | pd.Index, *, seed: int = 0
) -> Interval:
    """`cluster_interval` of one value a document; `sources` names the stratum of each."""
    groups = [group.to_numpy() for _, group in values.groupby(sources, sort=False)]
    return cluster_interval(groups, seed=seed)


class TwoWay(NamedTuple):
    """A mean over seeds and documents with its bootstrap interval and standard error."""

    mean: float
    low: float
    high: float
    error: float
    seeds: int
    documents: int


def two_way_interval(
    values: Float[np.ndarray, "S B"],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> TwoWay:
    """Interval of the mean of a table of seeds and documents, both resampled, each on its own.

    What one seed does on all documents is one draw of a training run, and what all seeds do on one
    document is one draw of a text: neither alone tells what another run on other texts would do.
    With one seed only documents are resampled. NaN bounds for fewer than two documents.
    """
    table = np.asarray(values, float)
    seeds, documents = table.shape
    mean = float(table.mean())
    if documents < 2 or np.isnan(mean):
        return TwoWay(mean, float("nan"), float("nan"), float("nan"), seeds, documents)
    rng = np.random.default_rng(seed)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    of_documents = rng.multinomial(documents, np.full(documents, 1 / documents), size=resamples)
    means = np.einsum("rs,sd,rd->r", of_seeds, table, of_documents / documents, optimize=True)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return TwoWay(mean, float(low), float(high), float(means.std()), seeds, documents)
