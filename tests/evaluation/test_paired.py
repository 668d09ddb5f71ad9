"""Paired comparisons against scipy, definitions written out, and hand examples."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from ponderttt.errors import InputError
from ponderttt.evaluation.paired import (
    bonferroni,
    cliffs_delta,
    cohens_d,
    holm,
    iqm,
    paired_test,
    probability_of_improvement,
    smallest_wilcoxon_p,
)


def _losses(n, shift=0.3, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(2.0, 0.5, n)
    return a, a + rng.normal(shift, 0.4, n)


def test_the_tests_are_scipys():
    a, b = _losses(12)
    result = paired_test(a, b)
    assert result.difference == pytest.approx(np.mean(a - b)) and result.difference < 0
    assert result.low < result.difference < result.high
    assert result.t_p == pytest.approx(stats.ttest_1samp(a - b, 0).pvalue)
    assert result.wilcoxon_p == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue)
    assert result.n == 12


def test_permutation_goes_through_every_sign():
    a, b = _losses(9)
    d = a - b
    means = np.asarray([np.mean(d * signs) for signs in product([1, -1], repeat=9)])
    exact = np.mean(np.abs(means) >= abs(d.mean()) - 1e-12)
    assert paired_test(a, b).permutation_p == pytest.approx(exact)


def test_many_samples_are_drawn_and_a_seed_repeats_them():
    a, b = _losses(40, shift=0.1)
    first = paired_test(a, b, seed=3)
    assert first == paired_test(a, b, seed=3)
    assert first != paired_test(a, b, seed=4)
    assert first.permutation_p == pytest.approx(first.t_p, abs=0.02)


def test_exchanging_the_methods_turns_the_signs():
    a, b = _losses(15)
    there, back = paired_test(a, b), paired_test(b, a)
    assert there.difference == -back.difference and there.cohens_d == -back.cohens_d
    assert there.cliffs_delta == pytest.approx(-back.cliffs_delta)
    assert there.improvement == pytest.approx(1 - back.improvement) and there.improvement > 0.5
    assert there.wilcoxon_p == back.wilcoxon_p


def test_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(0)
    results = [paired_test(*rng.normal(size=(2, 7)), seed=i) for i in range(150)]
    for name in ("t_p", "wilcoxon_p", "permutation_p"):
        assert 0.0 < np.mean([getattr(r, name) < 0.1 for r in results]) < 0.2


def test_effect_sizes_by_their_definitions():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 6, 13).astype(float), rng.integers(1, 7, 13).astype(float)
    pairs = [np.sign(x - y) for x in a for y in b]
    assert cliffs_delta(a, b) == pytest.approx(np.mean(pairs))
    assert cliffs_delta(a, b[:5]) == pytest.approx(np.mean([np.sign(x - b[:5]) for x in a]))
    won = [1.0 if x < y else 0.5 if x == y else 0.0 for x, y in zip(a, b, strict=True)]
    assert probability_of_improvement(a, b) == pytest.approx(np.mean(won))
    assert cohens_d([1.0, 4.0], [0.0, 1.0]) == pytest.approx(2 / np.sqrt(2))


def test_iqm_drops_a_quarter_at_either_end():
    values = np.random.default_rng(0).normal(size=(3, 9))
    assert iqm(values) == pytest.approx(np.sort(values.ravel())[6:-6].mean())


def test_corrections_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    # Sorted 0.005 0.01 0.03 0.04 times 4 3 2 1: 0.02 0.03 0.06 0.04, then never falling.
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(bonferroni(p), [0.04, 0.16, 0.12, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.02]), [0.02, np.nan, 0.02])
    np.testing.assert_allclose(bonferroni([0.01, np.nan, 0.02]), [0.02, np.nan, 0.04])
    assert holm([]).shape == (0,)


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng = np.random.default_rng(2)
    for _ in range(50):
        p = rng.uniform(0, 0.1, 6)
        rejected = set()
        for i, k in enumerate(np.argsort(p)):  # stops at the first that is not small enough
            if p[k] > 0.05 / (6 - i):
                break
            rejected.add(int(k))
        assert set(np.flatnonzero(holm(p) <= 0.05).tolist()) == rejected


@pytest.mark.parametrize("n", [2, 5, 10])
def test_the_least_wilcoxon_p_is_reached_and_no_less(n):
    assert smallest_wilcoxon_p(n) == pytest.approx(stats.wilcoxon(np.arange(1.0, n + 1)).pvalue)


def test_one_sample_has_no_p_value():
    result = paired_test([1.0], [1.5])
    assert (result.difference, result.n, result.improvement) == (-0.5, 1, 1.0)
    unknown = [result.low, result.high, result.t_p, result.wilcoxon_p, result.permutation_p]
    assert np.isnan([*unknown, result.cohens_d]).all()


def test_no_difference_at_all():
    result = paired_test([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert result.t_p == result.wilcoxon_p == result.permutation_p == 1.0
    assert result[:3] == (0.0, 0.0, 0.0)
    assert (result.cohens_d, result.cliffs_delta, result.improvement) == (0.0, 0.0, 0.5)


def test_the_same_difference_everywhere():
    result = paired_test(np.arange(6.0), np.arange(6.0) + 0.1)
    assert result.t_p == 0.0 and result.cohens_d == -np.inf
    assert result.wilcoxon_p == result.permutation_p == smallest_wilcoxon_p(6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: paired_test([1.0, 2.0], [1.0]), "cannot be paired"),
        (lambda: paired_test([], []), "empty"),
        (lambda: cohens_d([np.nan, 1.0], [1.0, 1.0]), "not finite"),
        (lambda: iqm([]), "empty"),
        (lambda: holm([0.1, 1.2]), "from 0 to 1"),
        (lambda: bonferroni([-0.1]), "from 0 to 1"),
        (lambda: smallest_wilcoxon_p(0), "n is 0"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(InputError, match=said):
        call()
