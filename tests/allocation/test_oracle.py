"""The oracle against brute force over the rollout itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from ponderttt.allocation.oracle import at_budget, one_step, separable_gain
from ponderttt.environment.beam import search
from ponderttt.environment.rollout import rollout
from ponderttt.environment.tree import read_tree
from ponderttt.environment.walk import TreeEnvironment
from ponderttt.errors import InputError
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import RandomPolicy, SchedulePolicy
from ponderttt.types import CHUNK_ACTIONS, Documents

N, U = 4, 8
ADAPTER = NextToken(SGD(jnp.asarray(2.0), jnp.asarray(0.2)))
KEY = jax.random.key(0)
COSTS = np.asarray(CHUNK_ACTIONS.costs)


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


def text(batch=2, n=N, seed=0, full=False):
    """Few different tokens, so that learning helps; the second document may end early."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(97, 103, (batch, n, U)).astype(np.int32)
    mask = np.ones(tokens.shape, bool)
    mask[-1, -1, 5:] = full
    return Documents(tokens, mask, np.asarray(256))


def read(lm, documents, taken):
    """Losses and costs [B] of the allocation `taken` [N], by the rollout."""
    policy = SchedulePolicy(jnp.eye(4)[np.asarray(taken)])
    episode = rollout(lm, ADAPTER, policy, documents, key=KEY)
    return np.asarray(episode.token_nll).sum((1, 2)) / U, np.asarray(episode.cost).sum(1)


def read_all(lm, documents):
    """Every allocation of three units that decide, read one by one."""
    taken = [(*actions, 0) for actions in itertools.product(range(4), repeat=N - 1)]
    losses, costs = zip(*(read(lm, documents, actions) for actions in taken), strict=True)
    return documents, np.asarray(taken), np.stack(losses, 1), np.stack(costs, 1)


@pytest.fixture(scope="module")
def full(lm):
    return read_all(lm, text(full=True))


@pytest.fixture(scope="module")
def tree(lm, full):
    return TreeEnvironment(read_tree(lm, ADAPTER, full[0]))


def test_the_tree_holds_every_allocation(full, tree):
    _, taken, losses, costs = full
    found = tree.allocations()
    for b in range(2):
        np.testing.assert_array_equal(found.action[b], taken)
    np.testing.assert_allclose(found.loss, losses, rtol=1e-4)
    np.testing.assert_allclose(found.cost, costs)


@pytest.mark.parametrize("price", [0.0, 0.002, 0.02])
def test_a_wide_beam_finds_the_best_and_no_policy_is_better(lm, price):
    documents, _, losses, costs = read_all(lm, text())
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
    for actions in np.asarray(together.action):
        assert len({tuple(row) for row in actions}) == 16
        for a in range(4):
            assert (actions == [*[a] * 6, 0]).all(axis=1).any()
    for price in prices:
        alone = search(lm, ADAPTER, documents, prices=(price,), width=4)
        one, all_ = (np.asarray(f.loss + price * f.cost).min(axis=1) for f in (alone, together))
        assert (all_ <= one + 2e-3).all()
    b, w = 1, 5
    loss, cost = read(lm, documents, together.action[b, w])
    np.testing.assert_allclose(together.loss[b, w], loss[b], rtol=1e-4)
    np.testing.assert_allclose(together.cost[b, w], cost[b])


def test_one_step_ahead_is_the_best_for_the_next_unit(full, tree):
    """Among allocations that agree so far, what loses least on the next unit, price included."""
    _, taken, losses, costs = full
    prices = (0.0, 0.01)
    found, gains = one_step(tree, prices), tree.node_gains("next")
    everywhere = tree.allocations()
    for b, (i, price) in itertools.product(range(2), enumerate(prices)):
        actions = found.action[b, i]
        assert actions[0] == np.argmax(gains[b, 0] - price * COSTS)
        assert actions[1] == np.argmax(gains[b, 1 + actions[0]] - price * COSTS)
        row = np.flatnonzero((taken == actions).all(axis=1))[0]
        np.testing.assert_allclose(found.loss[b, i], losses[b, row], rtol=1e-4)
        assert found.cost[b, i] == costs[b, row]
        best = (everywhere.loss[b] + price * everywhere.cost[b]).min()
        assert found.loss[b, i] + price * found.cost[b, i] >= best - 1e-6


@pytest.mark.parametrize("budget", [1.0, 2.0, 3.125, 5.0])
def test_the_budget_is_met_at_the_best_mixture(full, tree, budget):
    """Against the linear program over all allocations of both documents."""
    _, _, losses, costs = full
    chosen = at_budget(tree.allocations(), budget, N)
    solution = linprog(
        losses.reshape(-1),
        A_ub=[costs.reshape(-1)], b_ub=[2 * N * budget],
        A_eq=np.kron(np.eye(2), np.ones(losses.shape[1])), b_eq=[1, 1],
    )  # fmt: skip
    np.testing.assert_allclose(chosen.loss.sum(), solution.fun, rtol=1e-4)
    assert chosen.cost.mean() / N <= budget + 1e-6
    np.testing.assert_allclose(chosen.mix.sum(-1), 1)


def test_step_gains_are_rollouts_that_differ_in_one_action(lm, full, tree):
    documents, gains = full[0], tree.node_gains("next")
    assert gains.shape == (2, 21, 4) and not gains[..., 0].any()
    for b, before, a in [(0, (), 1), (0, (1,), 3), (1, (2, 0), 2), (1, (3, 3), 1)]:
        node, loss = 0, []
        for action in before:
            node = 4 * node + 1 + action
        for action in (0, a):
            actions = [*before, action, 0, 0, 0][:N]
            policy = SchedulePolicy(jnp.eye(4)[np.asarray(actions)])
            nll = np.asarray(rollout(lm, ADAPTER, policy, documents, key=KEY).token_nll)
            loss.append(float(nll[b, len(before) + 1].sum()) / U)
        np.testing.assert_allclose(gains[b, node, a], loss[0] - loss[1], atol=2e-5)


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
def test_a_search_that_cannot_be_is_refused(lm, tree, how, said):
    with pytest.raises(InputError, match=said):
        search(lm, ADAPTER, text(), **{"width": 1} | how)
    with pytest.raises(InputError, match="none below 0"):
        one_step(tree, (-1.0,))
    with pytest.raises(InputError, match="infeasible: the least feasible one is 1"):
        at_budget(tree.allocations(), 0.5, N)
