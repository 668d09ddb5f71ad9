"""What methods give for what they cost: frontiers, efficiency, the mix of actions, correlations.

Losses in nats, lower is better; costs in any one ledger.
"""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import DegenerateDataWarning, bootstrap, entropy

from ponderttt.errors import InputError
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, ArrayLike

_AT_ONCE = 2**22
"""Numbers that are resampled together: 32 MB."""


class Correlation(NamedTuple):
    """Spearman's rho with its bootstrap interval; `n` clusters."""

    rho: float
    low: float
    high: float
    n: int


def compute_pareto_frontier(costs: ArrayLike, losses: ArrayLike) -> np.ndarray:
    """Indices of the points that no other beats in cost or loss without losing in the other.

    Sorted by cost; of equal points the first is kept.

    >>> compute_pareto_frontier([1.0, 3.0, 2.0, 3.0], [2.0, 1.0, 2.5, 1.5]).tolist()
    [0, 1]
    """
    x, y = _points(costs, losses)
    order = np.lexsort((y, x))
    lowest_before = np.minimum.accumulate(np.concatenate([[np.inf], y[order][:-1]]))
    return order[y[order] < lowest_before]


def frontier_area(
    costs: ArrayLike, losses: ArrayLike, *, low: float, high: float, reference: float
) -> float:
    """Mean gain over the loss `reference`, at costs from `low` to `high`, of the best in reach.

    The area between `reference` and the frontier's step function (the lowest loss at up to that
    cost) over `high - low`, in nats. Where no point is in reach the gain is 0.

    >>> frontier_area([1.0, 3.0], [2.0, 1.0], low=1.0, high=5.0, reference=2.0)
    0.5
    """
    if not low < high:
        raise InputError(f"costs from {low} to {high} are no range: expected low below high")
    x, y = _points(costs, losses)
    best = compute_pareto_frontier(x, y)
    widths = np.diff(np.clip([*x[best], math.inf], low, high))
    return float(widths @ (reference - y[best]) / (high - low))


def compute_action_statistics(
    actions: ArrayLike,
    mask: ArrayLike | None = None,
    action_space: ActionSpace = CHUNK_ACTIONS,
) -> dict[str, Any]:
    """What was done with the units [B, N] where `mask` [B, N] holds (default: all).

    `shares` of each action by name, `mean_steps` and `mean_cost` a unit, `entropy` of the mix in
    nats, `steps_by_position` [N], the mean over documents (NaN where none has that unit).

    >>> stats = compute_action_statistics([[0, 3], [0, 1]])
    >>> stats["shares"]["SKIP"], stats["mean_steps"], stats["mean_cost"]
    (0.5, 1.25, 4.25)
    >>> stats["steps_by_position"].tolist()
    [0.0, 2.5]
    """
    chosen = np.asarray(actions)
    real = np.ones(chosen.shape, bool) if mask is None else np.asarray(mask, bool)
    if chosen.ndim != 2 or real.shape != chosen.shape:
        raise InputError(f"actions {chosen.shape} and mask {real.shape}: expected [B, N] for both")
    if not real.any():
        raise InputError("no unit is left by the mask: expected one or more")
    count = len(action_space.names)
    if chosen[real].min() < 0 or chosen[real].max() >= count:
        raise InputError(
            f"actions run from {chosen[real].min()} to {chosen[real].max()}: expected 0 to "
            f"{count - 1}; give the action space that was used"
        )
    shares = np.bincount(chosen[real], minlength=count) / real.sum()
    steps = np.asarray(action_space.steps, float)
    present = real.sum(axis=0)
    taken = np.where(real, steps[np.where(real, chosen, 0)], 0.0).sum(axis=0)
    unknown = np.full(len(present), np.nan)
    return {
        "shares": dict(zip(action_space.names, shares.tolist(), strict=True)),
        "mean_steps": float(shares @ steps),
        "mean_cost": float(shares @ np.asarray(action_space.costs)),
        "entropy": float(entropy(shares)),
        "steps_by_position": np.divide(taken, present, where=present > 0, out=unknown),
    }


def compute_efficiency_metrics(
    loss: float, baseline_loss: float, cost: float, baseline_cost: float
) -> dict[str, float]:
    """`gain` (nats), `gain_per_cost` of the extra cost, and `perplexity_ratio = exp(-gain)`.

    `gain_per_cost` is NaN where there is no extra cost.

    >>> compute_efficiency_metrics(2.0, 2.5, cost=3.0, baseline_cost=1.0)["gain_per_cost"]
    0.25
    """
    gain, extra = float(baseline_loss - loss), float(cost - baseline_cost)
    return {
        "gain": gain,
        "gain_per_cost": gain / extra if extra > 0 else math.nan,
        "perplexity_ratio": math.exp(-gain),
    }


def spearman_interval(
    x: ArrayLike,
    y: ArrayLike,
    clusters: ArrayLike,
    seed: int = 0,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Correlation:
    """Spearman's rank correlation over units, its interval by whole clusters of them.

    Without the p-value of `scipy.stats.spearmanr`, which takes units for independent.

    `clusters` names the document of each unit: documents are resampled, percentile method. NaN
    where `x` or `y` is constant; NaN bounds where it can be in a resample, or under two documents.

    >>> spearman_interval([1, 2, 3, 4], [1, 4, 9, 16], ["a", "a", "b", "b"]).rho
    1.0
    """
    x, y, names = np.asarray(x, float), np.asarray(y, float), np.asarray(clusters)
    if x.ndim != 1 or not x.size or x.shape != y.shape or x.shape != names.shape:
        raise InputError(
            f"x {x.shape}, y {y.shape}, clusters {names.shape}: expected one value of each a unit"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("x or y holds a value that is not finite: leave that unit out")
    clusters_found, cluster = np.unique(names, return_inverse=True)
    all_clusters = np.arange(len(clusters_found))

    def rho(chosen, axis=-1):
        """Of all resamples of clusters at once: a unit weighs as often as it was drawn."""
        drawn = (chosen[..., None] == all_clusters).sum(axis=-2).astype(float)
        return _weighted_spearman(x, y, drawn[..., cluster])

    if len(all_clusters) < 2:
        return Correlation(float(rho(all_clusters)), math.nan, math.nan, len(all_clusters))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # the NaN bounds say it
        result = bootstrap(
            (all_clusters,),
            rho,
            n_resamples=resamples,
            batch=max(1, _AT_ONCE // (x.size + len(all_clusters) ** 2)),
            confidence_level=confidence,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(seed),
        )
    low, high = result.confidence_interval
    return Correlation(float(rho(all_clusters)), float(low), float(high), len(all_clusters))


def _weighted_spearman(
    x: Float[np.ndarray, "M"], y: Float[np.ndarray, "M"], weights: Float[np.ndarray, "*resamples M"]
) -> Float[np.ndarray, "*resamples"]:
    """The rank correlation with unit m there `weights[m]` times; NaN where x or y is constant."""
    mean = (weights.sum(axis=-1, keepdims=True) + 1) / 2
    a, b = (_weighted_ranks(values, weights) - mean for values in (x, y))
    covariance, *variances = ((weights * u * v).sum(axis=-1) for u, v in ((a, b), (a, a), (b, b)))
    square = variances[0] * variances[1]
    return np.where(square > 0, covariance / np.sqrt(np.where(square > 0, square, 1)), np.nan)


def _weighted_ranks(
    values: Float[np.ndarray, "M"], weights: Float[np.ndarray, "*resamples M"]
) -> Float[np.ndarray, "*resamples M"]:
    """Mean ranks: equal values share theirs."""
    order = np.argsort(values)
    _, first, tied = np.unique(values[order], return_index=True, return_inverse=True)
    total = np.add.reduceat(weights[..., order], first, axis=-1)
    ranks = np.empty(weights.shape)
    ranks[..., order] = (np.cumsum(total, axis=-1) - (total - 1) / 2)[..., tied]
    return ranks


def _points(costs: ArrayLike, losses: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(costs, float), np.asarray(losses, float)
    if x.ndim != 1 or not x.size or x.shape != y.shape:
        raise InputError(f"costs {x.shape} and losses {y.shape}: expected one of each a method")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("a cost or loss is not finite: leave that method out")
    return x, y
