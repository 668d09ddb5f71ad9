"""The oracle against brute force over the rollout itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from ponderttt.evaluation.oracle import at_budget, counterfactuals, one_step, search, separable_gain
from ponderttt.models.adapters import NextToken
from ponderttt.models.lm import TransformerLM
from ponderttt.policies import RandomPolicy, SchedulePolicy
from ponderttt.rollout import rollout
from ponderttt.types import CHUNK_ACTIONS, Documents, InputError

N, U = 4, 8
ADAPTER = NextToken(jnp.asarray(2.0), jnp.asarray(0.2))
KEY = jax.random.key(0)
COSTS = np.asarray(CHUNK_ACTIONS.costs)


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


def text(batch=2, n=N, seed=0):
    """Few different tokens, so that learning helps; the second document ends early."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(97, 103, (batch, n, U)).astype(np.int32)
    mask = np.ones(tokens.shape, bool)
    mask[-1, -1, 5:] = False
    return Documents(tokens, mask, np.asarray(256))


def read(lm, documents, ways):
    """Losses and costs [B] of the allocation `ways` [N], by the rollout."""
    policy = SchedulePolicy(jnp.eye(4)[np.asarray(ways)])
    episode = rollout(lm, ADAPTER, policy, documents, key=KEY)
    return np.asarray(episode.token_nll).sum((1, 2)) / U, np.asarray(episode.cost).sum(1)


@pytest.fixture(scope="module")
def everything(lm):
    """Every allocation of three units that decide, read one by one."""
    documents = text()
    ways = [(*way, 0) for way in itertools.product(range(4), repeat=N - 1)]
    losses, costs = zip(*(read(lm, documents, way) for way in ways), strict=True)
    return documents, np.asarray(ways), np.stack(losses, 1), np.stack(costs, 1)


def test_the_exhaustive_search_is_every_allocation(lm, everything):
    documents, ways, losses, costs = everything
    found = search(lm, ADAPTER, documents)
    for b in range(2):
        order = np.lexsort(np.asarray(found.action[b]).T[::-1])
        np.testing.assert_array_equal(np.asarray(found.action[b])[order], ways)
        np.testing.assert_allclose(np.asarray(found.loss[b])[order], losses[b], rtol=1e-4)
        np.testing.assert_allclose(np.asarray(found.cost[b])[order], costs[b])


@pytest.mark.parametrize("price", [0.0, 0.002, 0.02])
def test_a_wide_beam_finds_the_best_and_no_policy_is_better(lm, everything, price):
    documents, ways, losses, costs = everything
    best = (losses + price * costs).min(axis=1)
    found = search(lm, ADAPTER, documents, prices=(price,), width=16)
    value = np.asarray(found.loss + price * found.cost).min(axis=1)
    np.testing.assert_allclose(value, best, rtol=1e-5)
    narrow = search(lm, ADAPTER, documents, prices=(price,), width=1)
    assert (np.asarray(narrow.loss + price * narrow.cost).min(axis=1) >= best - 1e-4).all()
    for seed in range(3):
        mix = RandomPolicy(jnp.asarray([0.4, 0.3, 0.2, 0.1]))
        episode = rollout(lm, ADAPTER, mix, documents, key=jax.random.key(seed))
        loss = np.asarray(episode.token_nll).sum((1, 2)) / U
        assert (loss + price * np.asarray(episode.cost).sum(1) >= best - 1e-4).all()


def test_prices_share_a_beam_and_lose_nothing_by_it(lm):
    documents = text(n=7)
    prices = (0.0, 0.002, 0.02)
    together = search(lm, ADAPTER, documents, prices=prices, width=4)
    assert together.loss.shape == (2, 16)
    for way in np.asarray(together.action):
        assert len({tuple(row) for row in way}) == 16
        for a in range(4):
            assert (way == [*[a] * 6, 0]).all(axis=1).any()
    for price in prices:
        alone = search(lm, ADAPTER, documents, prices=(price,), width=4)
        one, all_ = (np.asarray(f.loss + price * f.cost).min(axis=1) for f in (alone, together))
        assert (all_ <= one + 2e-3).all()
    b, w = 1, 5
    loss, cost = read(lm, documents, together.action[b, w])
    np.testing.assert_allclose(together.loss[b, w], loss[b], rtol=1e-4)
    np.testing.assert_allclose(together.cost[b, w], cost[b])


def test_one_step_ahead_is_the_best_for_the_next_unit(lm, everything):
    """At each unit, among the ways that agree so far."""
    documents, ways, _, _ = everything
    prices = (0.0, 0.01)
    found = one_step(lm, ADAPTER, documents, prices=prices)
    units = {
        tuple(way): np.asarray(
            rollout(lm, ADAPTER, SchedulePolicy(jnp.eye(4)[way]), documents, key=KEY).token_nll
        ).sum(2) / U
        for way in ways if (way[1:] == 0).all()
    }  # fmt: skip
    for i, price in enumerate(prices):
        value = [units[a, 0, 0, 0][0, 1] + price * COSTS[a] for a in range(4)]
        assert int(found.action[0, i, 0]) == int(np.argmin(value))
    b = 1
    loss, cost = read(lm, documents, found.action[b, 0])
    np.testing.assert_allclose(found.loss[b, 0], loss[b], rtol=1e-4)
    np.testing.assert_allclose(found.cost[b, 0], cost[b])


@pytest.mark.parametrize("budget", [1.0, 2.0, 3.125, 5.0])
def test_the_budget_is_met_at_the_best_mixture(lm, everything, budget):
    """Against the linear program over all allocations of both documents."""
    documents, _, losses, costs = everything
    chosen = at_budget(search(lm, ADAPTER, documents), budget, N)
    solution = linprog(
        losses.reshape(-1),
        A_ub=[costs.reshape(-1)], b_ub=[2 * N * budget],
        A_eq=np.kron(np.eye(2), np.ones(losses.shape[1])), b_eq=[1, 1],
    )  # fmt: skip
    np.testing.assert_allclose(chosen.loss.sum(), solution.fun, rtol=1e-4)
    assert chosen.cost.mean() / N <= budget + 1e-6
    np.testing.assert_allclose(chosen.mix.sum(-1), 1)


def test_counterfactuals_are_rollouts_that_differ_in_one_action(lm):
    documents = text()
    taken = np.asarray([[1, 3, 0, 2], [2, 0, 1, 0]])
    gains = np.asarray(counterfactuals(lm, ADAPTER, documents, taken))
    assert gains.shape == (2, N, 4) and not gains[:, -1].any() and not gains[:, :, 0].any()
    for b, n, a in [(0, 0, 1), (0, 1, 3), (1, 1, 2), (1, 2, 1)]:
        loss = []
        for action in (0, a):
            way = taken[b].copy()
            way[n] = action
            policy = SchedulePolicy(jnp.eye(4)[way])
            loss.append(float(np.asarray(
                rollout(lm, ADAPTER, policy, documents, key=KEY).token_nll
            )[b, n + 1].sum()) / U)  # fmt: skip
        np.testing.assert_allclose(gains[b, n, a], loss[0] - loss[1], atol=2e-5)


@pytest.mark.parametrize("budget", [1.5, 3.0, 8.0])
def test_the_separable_bound_is_the_knapsacks(budget):
    gains = np.random.default_rng(0).normal(size=(12, 4))
    solution = linprog(
        -gains.reshape(-1),
        A_ub=[np.tile(COSTS, 12)], b_ub=[12 * budget],
        A_eq=np.kron(np.eye(12), np.ones(4)), b_eq=np.ones(12),
    )  # fmt: skip
    np.testing.assert_allclose(separable_gain(gains, budget), -solution.fun / 12, rtol=1e-6)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"width": 0}, "keeps nothing"),
        ({"prices": ()}, "expected one or more"),
        ({"prices": (-1.0,)}, "none below 0"),
    ],
)
def test_a_search_that_cannot_be_is_refused(lm, how, said):
    with pytest.raises(InputError, match=said):
        search(lm, ADAPTER, text(), **how)
    with pytest.raises(InputError, match="4.6 ways: expected 6 units"):
        search(lm, ADAPTER, text(n=7))
    with pytest.raises(InputError, match="infeasible: the least feasible one is 1"):
        at_budget(search(lm, ADAPTER, text()), 0.5, N)
