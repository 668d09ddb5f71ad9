"""Frontier, efficiency, actions and correlation against their definitions."""

import numpy as np
import pytest
from scipy.stats import bootstrap, spearmanr

from ponderttt.errors import InputError
from ponderttt.evaluation.metrics import (
    compute_action_statistics,
    compute_efficiency_metrics,
    compute_pareto_frontier,
    frontier_area,
    spearman_interval,
)
from ponderttt.types import CHUNK_ACTIONS, ActionSpace


def test_the_frontier_is_what_nothing_dominates():
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = rng.integers(0, 6, (12, 2)).astype(float)  # many ties and copies
        kept = compute_pareto_frontier(*points.T)
        best = {
            tuple(p) for p in points if not any((q <= p).all() and (q < p).any() for q in points)
        }
        assert len(kept) == len(best) and {tuple(points[i]) for i in kept} == best
        assert (np.diff(points[kept, 0]) > 0).all() and (np.diff(points[kept, 1]) < 0).all()
    assert compute_pareto_frontier([2.0, 2.0], [1.0, 1.0]).tolist() == [0]


def test_the_area_is_the_mean_gain_over_the_range():
    costs, losses = [1.0, 3.0, 4.0, 2.0], [2.0, 1.2, 1.5, 2.5]
    grid = np.linspace(0.0, 6.0, 60001)
    reach = [[loss for c, loss in zip(costs, losses, strict=True) if c <= g] for g in grid[::10]]
    gains = [2.2 - min(r) if r else 0.0 for r in reach]
    assert frontier_area(costs, losses, low=0.0, high=6.0, reference=2.2) == pytest.approx(
        np.mean(gains), abs=1e-3
    )
    assert frontier_area(costs, losses, low=3.0, high=6.0, reference=2.2) == pytest.approx(1.0)
    assert frontier_area(costs, losses, low=1.0, high=2.0, reference=1.0) == pytest.approx(-1.0)
    assert frontier_area(costs, losses, low=0.0, high=0.5, reference=2.2) == 0.0


def test_actions_counted_one_by_one():
    rng = np.random.default_rng(0)
    actions, mask = rng.integers(0, 4, (5, 7)), rng.random((5, 7)) < 0.6
    mask[:, 6] = False
    actions[~mask] = 99  # what stands on padding does not matter
    stats = compute_action_statistics(actions, mask, CHUNK_ACTIONS)
    done = [CHUNK_ACTIONS.names[a] for a in actions[mask]]
    shares = np.asarray([done.count(name) / len(done) for name in CHUNK_ACTIONS.names])
    assert list(stats["shares"].values()) == pytest.approx(shares)
    steps = {a: s for a, s in enumerate(CHUNK_ACTIONS.steps)}
    assert stats["mean_steps"] == pytest.approx(np.mean([steps[a] for a in actions[mask]]))
    costs = [CHUNK_ACTIONS.costs[a] for a in actions[mask]]
    assert stats["mean_cost"] == pytest.approx(np.mean(costs))
    assert stats["entropy"] == pytest.approx(-np.sum(shares * np.log(shares)))
    for n in range(6):
        here = [steps[a] for a in actions[mask[:, n], n]]
        assert stats["steps_by_position"][n] == pytest.approx(np.mean(here))
    assert np.isnan(stats["steps_by_position"][6])


def test_one_action_has_no_entropy():
    space = ActionSpace(("K1", "K8"), (1, 8), (1.0, 8.0))
    stats = compute_action_statistics(np.ones((2, 3), int), None, space)
    assert stats["shares"] == {"K1": 0.0, "K8": 1.0}
    assert stats["entropy"] == 0.0 and stats["mean_steps"] == stats["mean_cost"] == 8.0


def test_efficiency():
    metrics = compute_efficiency_metrics(2.0, 2.3, cost=3.0, baseline_cost=1.0)
    assert metrics["gain"] == pytest.approx(0.3)
    assert metrics["gain_per_cost"] == pytest.approx(0.15)
    assert metrics["perplexity_ratio"] == pytest.approx(np.exp(2.0) / np.exp(2.3))
    for cost in (1.0, 0.5):
        free = compute_efficiency_metrics(2.0, 2.3, cost=cost, baseline_cost=1.0)
        assert np.isnan(free["gain_per_cost"])


def _units(rng, documents, units, within):
    """Correlated signals; `within` is the part that all units of a document share."""
    shared = rng.normal(size=(documents, 1, 2)) * np.sqrt(within)
    own = rng.normal(size=(documents, units, 2)) * np.sqrt(1 - within)
    x, noise = np.moveaxis((shared + own).reshape(-1, 2), -1, 0)
    return x, x + noise, np.repeat(np.arange(documents), units)


def test_rho_is_scipys():
    x, y, names = _units(np.random.default_rng(0), 20, 5, 0.5)
    x = np.round(x, 1)  # ties
    result = spearman_interval(x, y, names, 0)
    assert result.rho == pytest.approx(spearmanr(x, y).statistic)
    assert result.low < result.rho < result.high and result.n == 20
    assert result == spearman_interval(x, y, names, 0)


def test_the_interval_of_rho_is_that_of_scipys_over_resamples_one_by_one():
    rng = np.random.default_rng(3)
    names = np.repeat(np.arange(9), rng.integers(1, 6, 9))  # documents of different lengths
    x, y = np.round(rng.normal(size=(2, names.size)), 1)  # ties
    members = [np.flatnonzero(names == name) for name in range(9)]

    def rho(chosen):
        units = np.concatenate([members[i] for i in chosen])
        return spearmanr(x[units], y[units]).statistic

    expected = bootstrap(
        (np.arange(9),), rho, n_resamples=200, method="percentile", vectorized=False,
        rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    found = spearman_interval(x, y, names, 5, resamples=200)
    assert (found.low, found.high) == pytest.approx(expected)


def test_the_interval_of_rho_covers_it_about_as_often_as_it_says():
    # Both parts are normal with correlation 1/sqrt(2): Spearman's is 6/pi asin(r/2).
    rng, rho = np.random.default_rng(1), 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2)
    results = [
        spearman_interval(*_units(rng, 30, 4, 0.5), seed, resamples=80) for seed in range(80)
    ]
    assert 0.86 <= np.mean([r.low <= rho <= r.high for r in results]) <= 0.99


def test_copies_of_a_documents_units_do_not_narrow_it():
    x, y, names = _units(np.random.default_rng(2), 12, 3, 0.5)
    once = spearman_interval(x, y, names, 0, resamples=300)
    copied = [np.repeat(v, 10) for v in (x, y, names)]
    copies = spearman_interval(*copied, 0, resamples=300)
    assert copies.high - copies.low == pytest.approx(once.high - once.low, rel=0.05)


def test_no_correlation_to_speak_of():
    constant = spearman_interval([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], ["a", "b", "c"])
    assert np.isnan(constant[:3]).all()
    alone = spearman_interval([1.0, 2.0, 4.0], [3.0, 2.0, 1.0], ["a", "a", "a"])
    assert alone.rho == -1.0 and np.isnan([alone.low, alone.high]).all() and alone.n == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: compute_pareto_frontier([1.0], [1.0, 2.0]), "one of each"),
        (lambda: compute_pareto_frontier([], []), "one of each"),
        (lambda: compute_pareto_frontier([1.0], [np.nan]), "not finite"),
        (lambda: frontier_area([1.0], [1.0], low=2.0, high=2.0, reference=1.0), "no range"),
        (lambda: compute_action_statistics([[0, 4]]), "expected 0 to 3"),
        (lambda: compute_action_statistics([[0, -1]]), "expected 0 to 3"),
        (lambda: compute_action_statistics([0, 1]), "expected"),
        (lambda: compute_action_statistics([[0]], [[False]]), "no unit"),
        (lambda: spearman_interval([1.0], [1.0, 2.0], ["a"]), "one value of each"),
        (lambda: spearman_interval([np.inf], [1.0], ["a"]), "not finite"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(InputError, match=said):
        call()
