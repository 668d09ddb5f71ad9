"""Is one method better than another: paired tests, effect sizes, corrections, power.

The sample is a document (or a seed x document), never a unit of one. Values are losses, lower is
better. The tests take samples for independent: where seeds of one document agree more with one
another than documents do, average over seeds first.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu, permutation_test, trim_mean, ttest_rel, wilcoxon

from ponderttt.errors import InputError
from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.types import ArrayLike

RESAMPLES = 9999


class PairedTest(NamedTuple):
    """How `a` differs from `b` on the same `n` samples; below zero means that `a` is lower.

    `difference` is the mean of `a - b` with its bootstrap interval; `t_p`, `wilcoxon_p` and
    `permutation_p` are two-sided; `improvement` is the share of samples on which `a` is lower.
    """

    difference: float
    low: float
    high: float
    t_p: float
    wilcoxon_p: float
    permutation_p: float
    cohens_d: float
    cliffs_delta: float
    improvement: float
    n: int


def paired_test(
    a: ArrayLike, b: ArrayLike, *, seed: int = 0, confidence: float = 0.95
) -> PairedTest:
    """Compare two methods on the same samples, one value each.

    Permutation flips the signs of differences: all of them while `2^n` is at most 9,999, drawn
    beyond. Under two samples there is no p-value and no bound (NaN); where all differences are zero
    every p is 1.

    >>> result = paired_test([1.0, 1.5, 2.0, 2.5], [1.2, 1.6, 2.3, 2.9])
    >>> round(result.difference, 3), result.wilcoxon_p, result.improvement, result.n
    (-0.25, 0.125, 1.0, 4)
    """
    a, b = _pairs(a, b)
    difference = a - b
    interval = cluster_interval([difference], confidence=confidence, seed=seed)
    t_p, wilcoxon_p, permutation_p = _p_values(a, b, seed)
    return PairedTest(
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        t_p=t_p,
        wilcoxon_p=wilcoxon_p,
        permutation_p=permutation_p,
        cohens_d=cohens_d(a, b),
        cliffs_delta=cliffs_delta(a, b),
        improvement=probability_of_improvement(a, b),
        n=len(a),
    )


def _p_values(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float, float, float]:
    difference = a - b
    if len(a) < 2:
        return (math.nan,) * 3
    if not difference.any():
        return (1.0,) * 3
    permuted = permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 10**6 // len(a)),
        rng=np.random.default_rng(seed),
    )
    # One value for every difference: t is infinite, and scipy would warn.
    t_p = 0.0 if _constant(difference) else float(ttest_rel(a, b).pvalue)
    return t_p, float(wilcoxon(difference).pvalue), float(permuted.pvalue)


def cohens_d(a: ArrayLike, b: ArrayLike) -> float:
    """Paired Cohen's d: the mean of `a - b` over its standard deviation (n - 1); not pooled.

    NaN under two samples; infinite where every difference is the same, 0 where that is zero.

    >>> cohens_d([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    2.0
    """
    a, b = _pairs(a, b)
    difference = a - b
    mean = float(difference.mean())
    if len(difference) < 2:
        return math.nan
    if _constant(difference):
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / float(difference.std(ddof=1))


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float:
    """`P(a > b) - P(a < b)` over all pairs of a value of `a` and one of `b`: `2U / (nm) - 1`.

    The samples need not be paired.

    >>> cliffs_delta([3.0, 4.0], [1.0, 2.0])
    1.0
    """
    a, b = _values(a, "a"), _values(b, "b")
    u = mannwhitneyu(a, b, method="asymptotic").statistic
    return float(2 * u / (len(a) * len(b)) - 1)


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> float:
    """Share of the pairs `a[i], b[i]` in which `a` is lower, a tie counting one half.

    >>> probability_of_improvement([1.0, 1.0, 3.0, 1.0], [2.0, 2.0, 2.0, 1.0])
    0.625
    """
    a, b = _pairs(a, b)
    return float(np.mean((a < b) + 0.5 * (a == b)))


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter, over all axes.

    As in rliable (Agarwal et al., 2108.13264): `floor(n / 4)` values go at either end.

    >>> iqm([0.0, 1.0, 2.0, 100.0])
    1.5
    """
    return float(trim_mean(_values(values, "values"), 0.25))


def bonferroni(p_values: ArrayLike) -> np.ndarray:
    """Adjusted p-values `min(1, m p)` of m tests, in the order given; NaN was no test and stays.

    >>> bonferroni([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.12, 0.09]
    """
    p = _checked_p(p_values)
    return np.minimum(1.0, p * np.count_nonzero(~np.isnan(p)))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Adjusted p-values of m tests by Holm (1979), in the order given; NaN was no test and stays.

    The i-th smallest becomes `max_{j<=i} min(1, (m - j + 1) p_(j))`.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = _checked_p(p_values)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]
    stepped = np.minimum(1.0, p[order] * np.arange(len(order), 0, -1))
    adjusted = p.copy()
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted


def smallest_wilcoxon_p(n: int) -> float:
    """The least two-sided p that a signed-rank test of n samples can give: `2 / 2^n`.

    >>> smallest_wilcoxon_p(5), smallest_wilcoxon_p(10) < 0.05 / 7
    (0.0625, True)
    """
    if n < 1:
        raise InputError(f"n is {n}: expected one sample or more")
    return min(1.0, 2.0 ** (1 - n))


def _constant(difference: np.ndarray) -> bool:
    """Whether nothing but rounding tells the differences apart."""
    return bool(np.ptp(difference) <= 1e-12 * abs(difference.mean()))


def _values(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, float).ravel()
    if not array.size:
        raise InputError(f"{name} is empty: expected one value or more")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds a value that is not finite: leave that sample out of both")
    return array


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = _values(a, "a"), _values(b, "b")
    if first.shape != second.shape:
        raise InputError(
            f"{len(first)} and {len(second)} values cannot be paired: expected one of each a sample"
        )
    return first, second


def _checked_p(p_values: ArrayLike) -> np.ndarray:
    p = np.asarray(p_values, float)
    if p.ndim != 1 or (p < 0).any() or (p > 1).any():
        raise InputError(f"expected a row of p-values from 0 to 1, not {p.tolist()}")
    return p
