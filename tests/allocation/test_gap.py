"""The gap captured: its ends, its weights, its interval's coverage; losses read off a curve."""

import numpy as np
import pytest

from ponderttt.allocation.gap import _bounds, at_cost, budget_error, gap_captured
from ponderttt.errors import InputError

SOURCES = ["python"] * 30 + ["go"] * 10


def _documents(rng, sources=SOURCES, share=0.4):
    """Losses of policy, control and oracle whose gap differs by document; the share is known."""
    n = len(sources)
    level = rng.normal(2.0, 0.5, n)
    gap = np.where(np.asarray(sources) == "python", 0.4, 0.1) * rng.uniform(0.2, 1.8, n)
    policy = level - share * gap + rng.normal(0, 0.05, n)
    return policy, level, level - gap


def test_the_control_captures_nothing_and_the_oracle_all():
    _, control, oracle = _documents(np.random.default_rng(0))
    assert gap_captured(control, control, oracle, SOURCES) == (0.0, 0.0, 0.0, 40)
    assert gap_captured(oracle, control, oracle, SOURCES) == (1.0, 1.0, 1.0, 40)
    halfway = gap_captured((control + oracle) / 2, control, oracle, SOURCES)
    assert halfway[:3] == pytest.approx((0.5, 0.5, 0.5))
    worse = gap_captured(control + 0.1, control, oracle, SOURCES)
    assert worse.high < 0


def test_a_ratio_of_means_in_which_every_source_weighs_the_same():
    policy, control, oracle = _documents(np.random.default_rng(1))
    captured = [(control - policy)[:30].mean(), (control - policy)[30:].mean()]
    there = [(control - oracle)[:30].mean(), (control - oracle)[30:].mean()]
    expected = sum(captured) / sum(there)
    result = gap_captured(policy, control, oracle, SOURCES)
    assert result.share == pytest.approx(expected)
    assert result.low < expected < result.high
    pooled = gap_captured(policy, control, oracle, ["one"] * 40)
    assert abs(pooled.share - expected) > 1e-3


def test_the_order_of_documents_does_not_matter_and_a_seed_repeats():
    policy, control, oracle = _documents(np.random.default_rng(1))
    order = np.random.default_rng(2).permutation(40)
    moved = gap_captured(policy[order], control[order], oracle[order], np.asarray(SOURCES)[order])
    here = gap_captured(policy, control, oracle, SOURCES)
    assert moved.share == pytest.approx(here.share)
    assert here == gap_captured(policy, control, oracle, SOURCES)
    assert here != gap_captured(policy, control, oracle, SOURCES, seed=1)


def test_the_interval_covers_the_share_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        result = gap_captured(*_documents(rng), SOURCES, seed=seed, resamples=300)
        hits += result.low <= 0.4 <= result.high
    assert 0.88 <= hits / 200 <= 0.99


def test_the_three_are_resampled_together():
    # The documents' levels differ far more than the methods do: apart, they would drown the gap.
    rng = np.random.default_rng(0)
    level = rng.normal(0, 100, 40)
    gap = rng.uniform(0.9, 1.1, 40)
    result = gap_captured(level - 0.3 * gap, level, level - gap, SOURCES)
    assert result.high - result.low < 1e-6


def test_more_confidence_is_wider():
    losses = _documents(np.random.default_rng(0))
    wide, narrow = (gap_captured(*losses, SOURCES, confidence=c) for c in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_no_gap_no_share():
    control = np.ones(4)
    for oracle in (control, control + 0.1):
        result = gap_captured(control - 0.1, control, oracle, ["a"] * 4)
        assert np.isnan(result[:3]).all() and result.n == 4
    unknown = gap_captured(np.full(4, np.nan), control, control - 1, ["a"] * 4)
    assert np.isnan(unknown[:3]).all()


def test_a_gap_that_may_not_be_there_has_no_bounds():
    control = np.zeros(4)
    oracle = np.asarray([-1.0, 0.5, 0.4, -0.2])
    result = gap_captured(control - 0.02, control, oracle, ["a"] * 4)
    assert result.share == pytest.approx(0.02 / 0.075)
    assert np.isnan([result.low, result.high]).all()


def test_a_resample_without_a_gap_counts_against_both_bounds():
    captured, gap = np.arange(101.0), np.ones(101)
    assert _bounds(captured, gap, tail=0.025) == (2.0, 98.0)
    gap[50] = -1.0
    assert _bounds(captured, gap, tail=0.025) == (1.0, 99.0)
    gap[51:53] = 0.0
    assert np.isnan(_bounds(captured, gap, tail=0.025)).all()


def test_a_source_of_one_document_has_no_bounds():
    result = gap_captured([0.5, 0.5, 0.5], [1, 1, 1], [0, 0, 0], ["a", "a", "b"])
    assert result.share == 0.5 and np.isnan([result.low, result.high]).all()


def test_between_two_points_a_line():
    costs, losses = [5.0, 1.0, 3.0, 3.0], [1.0, 2.0, 1.4, 1.2]
    for cost, loss in [(1.0, 2.0), (3.0, 1.3), (5.0, 1.0), (2.0, 1.65), (4.5, 1.075)]:
        assert at_cost(costs, losses, cost) == pytest.approx(loss)
    for outside in (0.99, 5.01, np.nan):
        assert np.isnan(at_cost(costs, losses, outside))
    assert at_cost([2.0], [1.0], 2.0) == 1.0


def test_a_bump_stays():
    assert at_cost([1.0, 2.0, 3.0], [1.0, 5.0, 0.0], 2.0) == 5.0


def test_each_document_has_its_own_curve():
    rng = np.random.default_rng(0)
    costs, losses = rng.permutation(np.arange(6.0)), rng.normal(size=(6, 3))
    each = [at_cost(costs, losses[:, b], 2.3) for b in range(3)]
    np.testing.assert_allclose(at_cost(costs, losses, 2.3), each)
    assert np.mean(each) == pytest.approx(at_cost(costs, losses.mean(axis=1), 2.3))
    order = np.argsort(costs)
    assert each[0] == pytest.approx(np.interp(2.3, costs[order], losses[order, 0]))
    assert np.isnan(at_cost(costs, losses, 9.0)).all()


def test_budget_error():
    assert budget_error(3.25, 3.125) == budget_error(3.0, 3.125) == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: gap_captured([1.0], [1.0, 2.0], [1.0, 2.0], ["a", "a"]), "expected one"),
        (lambda: gap_captured([], [], [], []), "expected one"),
        (lambda: at_cost([1.0, 2.0], [1.0], 1.5), "expected"),
        (lambda: at_cost([], [], 1.5), "expected"),
        (lambda: at_cost([1.0, np.nan], [1.0, 1.0], 1.0), "not finite"),
        (lambda: budget_error(1.0, 0.0), "above 0"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(InputError, match=said):
        call()
