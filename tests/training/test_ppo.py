"""PPO under a budget: its parts against their definitions, and probes whose answers are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from support.probes import CONFIG, PROBES, Task, collector, train_probe

from ponderttt.errors import InputError
from ponderttt.models.policy_network import (
    PolicyNetwork,
    PolicyNetworkConfig,
    apply_policy,
    init_policy,
    log_policy,
)
from ponderttt.training.gae import advantages, lagrangian_advantage, value_loss
from ponderttt.training.ppo import Batch, PIDLagrangianPPO, PPOConfig, Target, ppo_loss
from ponderttt.types import ActionSpace

SMALL = dataclasses.replace(CONFIG, iterations=4, epochs=2, minibatches=2)
BINDING = PROBES["binding budget"].setting
TRACES = []


def train(key, share_broken):
    """A short run in which that share of the batches holds one NaN reward."""
    collect = collector(SMALL, BINDING)

    def sometimes_broken(params, key):
        TRACES.append(1)
        seen = collect(params, key)
        broken = jax.random.uniform(jax.random.fold_in(key, 1)) < share_broken
        return seen._replace(reward=seen.reward.at[0, 0].add(jnp.where(broken, jnp.nan, 0.0)))

    return PIDLagrangianPPO(SMALL).train(key, sometimes_broken)


@pytest.fixture(scope="module")
def single():
    return jax.jit(train)


def leaves_equal(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


# Parts


def gae_by_definition(reward, value, mask, discount, decay):
    """`A_n = sum_l (discount decay)^l delta_{n+l}` over the row's real units, row by row."""
    result = np.zeros(reward.shape)
    for b in range(len(reward)):
        n = int(mask[b].sum())
        after = np.append(value[b, 1:n], 0.0)
        delta = reward[b, :n] + discount * after - value[b, :n]
        for i in range(n):
            result[b, i] = sum((discount * decay) ** (j - i) * delta[j] for j in range(i, n))
    return result


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 7).flatmap(lambda n: st.lists(st.integers(0, n), min_size=2, max_size=2).map(
        lambda lengths: (n, lengths))),
    st.sampled_from([0.0, 0.9, 1.0]), st.sampled_from([0.0, 0.95, 1.0]), st.integers(0, 99),
)  # fmt: skip
def test_gae_equals_its_definition_and_ignores_padding(shape, discount, decay, seed):
    n, lengths = shape
    rng = np.random.default_rng(seed)
    mask = np.arange(n)[None] < np.asarray(lengths)[:, None]
    reward, value = (np.where(mask, rng.normal(size=mask.shape), np.nan) for _ in range(2))
    found = advantages(
        jnp.asarray(reward, jnp.float32), jnp.asarray(value, jnp.float32), jnp.asarray(mask),
        discount=discount, decay=decay,
    )  # fmt: skip
    expected = gae_by_definition(reward, value, mask, discount, decay)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_values_are_clipped_around_the_old_value():
    def loss_and_slope(value, old, new):
        target = Target(jnp.asarray([old]), jnp.asarray([new]))
        loss = lambda v: value_loss(v, target, jnp.ones(1, bool), 0.2)  # noqa: E731
        value = jnp.asarray([value])
        return float(loss(value)), float(jax.grad(loss)(value)[0])

    # Near the old value: half the squared error, and its slope.
    assert loss_and_slope(1.1, 1.0, 2.0) == pytest.approx((0.5 * 0.9**2, -0.9))
    # Moved 0.5 towards the target: no better than moving 0.2, so nothing pulls any further.
    assert loss_and_slope(1.5, 1.0, 2.0) == pytest.approx((0.5 * 0.8**2, 0.0))
    # Moved 0.5 away from it: the whole error counts, and pulls back.
    assert loss_and_slope(0.5, 1.0, 2.0) == pytest.approx((0.5 * 1.5**2, -1.5))


def test_advantages_are_normalised_over_real_decisions():
    rng = np.random.default_rng(0)
    mask = jnp.asarray(rng.uniform(size=(4, 8)) < 0.7)
    reward = jnp.where(mask, jnp.asarray(5 + 3 * rng.normal(size=(4, 8)), jnp.float32), 1e6)
    cost = jnp.where(mask, jnp.asarray(-40 + 9 * rng.normal(size=(4, 8)), jnp.float32), -1e6)
    kept = np.asarray(mask)
    for multiplier, raw in ((0.0, reward), (1e6, -cost)):
        found = np.asarray(lagrangian_advantage(reward, cost, mask, jnp.asarray(multiplier)))
        assert found[kept].mean() == pytest.approx(0, abs=1e-5)
        assert found[kept].std() == pytest.approx(1, rel=1e-4)
        assert (found[~kept] == 0).all()
        assert np.corrcoef(found[kept], np.asarray(raw)[kept])[0, 1] > 0.999
    half = lagrangian_advantage(reward, cost, mask, jnp.asarray(1.0))
    ends = [lagrangian_advantage(reward, cost, mask, jnp.asarray(m)) for m in (0.0, 1e9)]
    np.testing.assert_allclose(half, 0.5 * (ends[0] + ends[1]), atol=1e-4)


def a_batch(params, multiplier):
    """Random decisions of the policy with these parameters, before any update."""
    rng = np.random.default_rng(3)
    features, (reward, *errors) = rng.normal(size=(64, 8)), rng.normal(size=(3, 64))
    action, mask = rng.integers(0, 4, 64), np.arange(64) < 50
    features, reward = jnp.asarray(features, jnp.float32), jnp.asarray(reward, jnp.float32)
    output = apply_policy(CONFIG.network, params, features)
    log_prob = jax.nn.log_softmax(output.logits)[np.arange(64), action]
    cost, mask = jnp.asarray(np.asarray(CONFIG.actions.costs)[action]), jnp.asarray(mask)
    advantage = lagrangian_advantage(reward, cost, mask, jnp.asarray(multiplier))
    targets = (
        Target(old, old + jnp.asarray(error, jnp.float32))
        for error, old in zip(errors, (output.value, output.cost_value), strict=True)
    )
    action = jnp.asarray(action)
    return Batch(features, action, mask, log_prob, advantage, *targets)


def test_the_loss_moves_with_the_multiplier():
    params = init_policy(CONFIG.network, jax.random.key(0))
    other = init_policy(CONFIG.network, jax.random.key(1))
    grad = jax.jit(jax.value_and_grad(lambda p, b: ppo_loss(CONFIG, p, b), has_aux=True))
    free, paying = a_batch(params, 0.0), a_batch(params, 2.0)
    (_, metrics), slope = grad(params, free)
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)  # nothing has been updated yet
    assert float(metrics["clip_share"]) == 0
    assert float(metrics["entropy"]) == pytest.approx(np.log(4), abs=1e-3)
    assert (
        float(jnp.abs(slope.logit_bias[...] - grad(params, paying)[1].logit_bias[...]).max()) > 1e-2
    )
    assert abs(float(grad(other, free)[0][0] - grad(other, paying)[0][0])) > 1e-5


def test_the_network_starts_orthogonal_with_trunks_of_its_own_for_each_output():
    config = PolicyNetworkConfig(features=8, hidden=16, layers=3)
    network = PolicyNetwork(config, rngs=nnx.Rngs(1))
    for kernel in network.kernels:
        for k in np.asarray(kernel[...]):
            gram = k @ k.T if k.shape[0] <= k.shape[1] else k.T @ k
            np.testing.assert_allclose(gram, 2 * np.eye(len(gram)), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(network.logit_kernel[...], axis=0), 0.01, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(network.value_kernel[...], axis=1), 1, rtol=1e-4)

    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 8)), jnp.float32)
    output = network(x)
    assert output.logits.shape == (2, 3, 5, 4) and output.value.shape == (2, 3, 5)
    np.testing.assert_allclose(
        network(x[1, 2, 4]).cost_value, output.cost_value[1, 2, 4], rtol=1e-5
    )
    params = nnx.state(network)
    log_probs = log_policy(config, params, x)
    np.testing.assert_allclose(jnp.exp(log_probs).sum(-1), 1, rtol=1e-5)

    @jax.jit
    def slopes(params):
        return [
            jax.grad(lambda p, i=i: jnp.sum(apply_policy(config, p, x)[i] ** 2))(params).kernels
            for i in range(3)
        ]

    for i, kernels in enumerate(slopes(params)):
        for kernel in jax.tree.leaves(kernels):
            moved = np.abs(np.asarray(kernel)).max((1, 2)) > 0
            np.testing.assert_array_equal(moved, np.arange(3) == i)


# The whole


def test_it_compiles_once_and_the_same_key_gives_the_same_bits(single):
    first = single(jax.random.key(0), 0.0)
    traces = len(TRACES)
    assert traces > 0
    other, again = single(jax.random.key(1), 0.0), single(jax.random.key(0), 0.0)
    assert len(TRACES) == traces
    leaves_equal(first, again, rtol=0, atol=0)
    assert not np.array_equal(first.history.reward, other.history.reward)
    np.testing.assert_allclose(first.history.action_mix.sum(-1), 1, rtol=1e-5)
    costs = np.asarray(first.history.action_mix) @ np.asarray(CONFIG.actions.costs)
    np.testing.assert_allclose(first.history.cost, costs, rtol=1e-5)
    assert first.history.skipped.sum() == 0


def test_vmapped_seeds_equal_separate_runs(single):
    keys = jax.random.split(jax.random.key(5), 2)
    together = jax.jit(jax.vmap(train, (0, None)))(keys, 0.0)
    for i, key in enumerate(keys):
        alone = jax.tree.map(lambda x, i=i: x[i], together)
        leaves_equal(alone, single(key, 0.0), rtol=1e-5, atol=1e-5)


def test_updates_without_a_finite_gradient_are_skipped_and_counted(single):
    result = single(jax.random.key(0), 0.5)
    broken = np.isnan(result.history.reward)
    assert 0 < broken.sum() < SMALL.iterations
    np.testing.assert_array_equal(result.history.skipped, np.where(broken, 4, 0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))
    assert np.isfinite(result.history.multiplier).all()

    never = single(jax.random.key(0), 1.0)
    assert (np.asarray(never.history.skipped) == 4).all()
    start = init_policy(SMALL.network, jax.random.split(jax.random.key(0))[0])
    leaves_equal(never.params.kernels, start.kernels, rtol=1e-5, atol=1e-6)
    leaves_equal(never.params.logit_kernel, start.logit_kernel, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def trained():
    """Every probe on ten seeds, and the binding one again with more to spend, in one program."""
    runs = {name: probe.setting for name, probe in PROBES.items()}
    runs["more to spend"] = BINDING._replace(budget=np.float32(3.0))
    stacked = Task(
        *(jnp.stack([jnp.asarray(x) for x in xs]) for xs in zip(*runs.values(), strict=True))
    )
    keys = jax.random.split(jax.random.key(0), 10)
    results = jax.jit(jax.vmap(jax.vmap(train_probe, (None, 0)), (0, None)))(stacked, keys)
    return {name: jax.tree.map(lambda x, i=i: x[i], results) for i, name in enumerate(runs)}


@pytest.mark.parametrize("name", PROBES)
def test_probes_are_solved_on_nine_seeds_of_ten(trained, name):
    solved = jax.jit(jax.vmap(PROBES[name].solved))(trained[name])
    assert int(solved.sum()) >= 9, np.asarray(solved)


def test_the_budget_moves_the_multiplier_and_the_cost(trained):
    little, more, free = (
        trained[name].history for name in ("binding budget", "more to spend", "visible reward")
    )
    assert (little.multiplier[:, 20] > little.multiplier[:, 0]).all()
    assert (little.multiplier[:, -1] > more.multiplier[:, -1]).all()
    assert (free.multiplier == 0).all()
    spent = [float(history.cost[:, -20:].mean()) for history in (little, more)]
    assert spent[0] == pytest.approx(2.0, rel=0.03)
    assert spent[0] + 0.3 < spent[1] < 1.05 * 3.0  # with four cues, cost moves in jumps of 0.5
    assert (more.reward[:, -20:].mean(1) > little.reward[:, -20:].mean(1)).all()


# Bad input


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"budget": 0.9}, "SKIP, the cheapest action, costs 1, so the least feasible budget is 1"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"rate": -1e-3}, "rate is -0.001"),
        ({"iterations": 0}, "iterations is 0"),
        ({"gae_decay": 1.5}, "gae_decay is 1.5: expected 0 to 1"),
        ({"entropy_weight": -1.0}, "entropy_weight is -1.0"),
        ({"network": PolicyNetworkConfig(actions=3)}, "give network.actions=4"),
        ({"actions": ActionSpace(("A", "B"), (0, 1), (1.0, 2.0))}, "give network.actions=2"),
    ],
)
def test_settings_that_cannot_work_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        PPOConfig(**bad)


def test_what_does_not_fit_the_configuration_is_refused():
    key = jax.random.key(0)
    with pytest.raises(InputError, match="minibatches=5 does not divide the 256 decisions"):
        train_probe(BINDING, key, dataclasses.replace(SMALL, minibatches=5))
    with pytest.raises(InputError, match="least feasible budget is 1"):
        train_probe(BINDING._replace(budget=np.float32(0.5)), key, SMALL)
    params = init_policy(CONFIG.network, key)
    with pytest.raises(InputError, match="9 features a unit: this policy was made for 8"):
        log_policy(CONFIG.network, params, jnp.zeros((2, 9)))
    with pytest.raises(InputError, match="hidden is 0"):
        PolicyNetworkConfig(hidden=0)
