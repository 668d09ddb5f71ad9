"""The gap captured: how much of what the oracle saves over the best uninformed control.

All three at the same mean cost: `at_cost` reads a method's loss off its own cost curve.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ponderttt.errors import InputError
from ponderttt.evaluation.statistics import resampled_means, strata
from ponderttt.types import ArrayLike


class Gap(NamedTuple):
    """The share of the gap with its bootstrap interval; `n` documents."""

    share: float
    low: float
    high: float
    n: int


def at_cost(costs: ArrayLike, losses: ArrayLike, cost: float) -> np.ndarray:
    """A method's loss at the mean cost `cost`, linear between the points of its own cost curve.

    Points are (mean cost, mean loss), in any order; `losses` is [P], or [P, B] to get one value a
    document. Points of equal cost are averaged; no hull is taken, so a curve may have bumps. NaN
    outside the costs that were realised: nothing is extrapolated.

    >>> float(at_cost([1.0, 5.0, 3.0], [2.0, 1.4, 1.6], 2.0))
    1.8
    >>> float(at_cost([1.0, 3.0], [2.0, 1.6], 3.5))
    nan
    """
    x, y = np.asarray(costs, float), np.asarray(losses, float)
    if x.ndim != 1 or not x.size or y.shape[:1] != x.shape:
        raise InputError(f"costs {x.shape} and losses {y.shape}: expected [P] and [P] or [P, B]")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("the cost curve holds a value that is not finite: leave that point out")
    points, index, count = np.unique(x, return_inverse=True, return_counts=True)
    shape = (-1,) + (1,) * (y.ndim - 1)
    means = np.zeros((len(points), *y.shape[1:]))
    np.add.at(means, index, y / count[index].reshape(shape))
    if not points[0] <= cost <= points[-1]:
        return np.full(y.shape[1:], np.nan)
    right = int(np.searchsorted(points, cost))
    if points[right] == cost:
        return np.asarray(means[right])
    weight = (cost - points[right - 1]) / (points[right] - points[right - 1])
    return np.asarray((1 - weight) * means[right - 1] + weight * means[right])


def gap_captured(
    policy: ArrayLike,
    control: ArrayLike,
    oracle: ArrayLike,
    sources: Sequence[str] | np.ndarray,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Gap:
    """`(L_control - L_policy) / (L_control - L_oracle)`, a ratio of means over documents.

    The arrays [B] hold each document's loss (nats) at equal cost; `sources` names its stratum,
    and every source weighs the same. 0 is the control, 1 the oracle; NaN where the oracle saves
    nothing over the control, or where a loss is NaN (`at_cost` out of reach).

    The interval is the percentile bootstrap of the ratio: documents are resampled within their
    source, all three losses together. A resample without a gap counts against both bounds; where
    there are too many of them, or a source has one document, the bounds are NaN.

    >>> gap = gap_captured([1.5, 2.5], [2.0, 3.0], [1.0, 2.0], ["code", "code"])
    >>> gap.share, gap.low, gap.high, gap.n
    (0.5, 0.5, 0.5, 2)
    """
    losses = [np.asarray(values, float) for values in (policy, control, oracle)]
    names = np.asarray(sources)
    if names.ndim != 1 or not names.size or any(x.shape != names.shape for x in losses):
        shapes = ", ".join(str(x.shape) for x in (*losses, names))
        raise InputError(f"policy, control, oracle, sources are {shapes}: expected one [B] for all")
    saved = np.stack([losses[1] - losses[0], losses[1] - losses[2]])  # what is captured, and of it
    members = strata(names)
    captured, gap = np.mean([saved[:, chosen].mean(axis=-1) for chosen in members], axis=0)
    nothing = Gap(math.nan, math.nan, math.nan, len(names))
    if not (np.isfinite(saved).all() and gap > 0):
        return nothing
    share = float(captured / gap)
    if min(len(chosen) for chosen in members) < 2:
        return nothing._replace(share=share)
    drawn = resampled_means(saved, names, resamples=resamples, seed=seed)
    return Gap(share, *_bounds(*drawn, tail=(1 - confidence) / 2), n=len(names))


def _bounds(captured: np.ndarray, gap: np.ndarray, *, tail: float) -> tuple[float, float]:
    """Quantiles of the ratio; without a gap it could be anything."""
    exists = gap > 0
    ratio = np.divide(captured, gap, where=exists, out=np.full(gap.shape, np.inf))
    lowest, highest = np.sort(np.where(exists, ratio, -np.inf)), np.sort(ratio)
    cut = math.floor(tail * (len(gap) - 1))
    low, high = float(lowest[cut]), float(highest[-1 - cut])
    return (low, high) if math.isfinite(high - low) else (math.nan, math.nan)


def budget_error(realised: float, budget: float) -> float:
    """`|realised - budget| / budget`, both mean costs a unit.

    >>> budget_error(3.0, 3.125)
    0.04
    """
    if not budget > 0:
        raise InputError(f"budget is {budget}: expected a mean cost above 0")
    return abs(realised - budget) / budget
