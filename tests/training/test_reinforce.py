"""REINFORCE: its gradient is the exact one on the mean, its credit causal, its probes solved."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import probes

from ponderttt.models.policy_network import PolicyNetworkConfig, apply_policy, log_policy
from ponderttt.training.ppo import PPOConfig
from ponderttt.training.reinforce import (
    Baseline,
    ReinforceConfig,
    credit,
    price,
    reinforce,
    surrogate,
)

B, N, A = 6, 3, 2


def a_case(seed=0):
    """Logits [N A], and a reward of each allocation [A^N, N] in which later ones depend on all."""
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(N, A)), jnp.float32)
    allocations = np.array(list(itertools.product(range(A), repeat=N)))
    reward = np.zeros((len(allocations), N))
    table = rng.normal(size=(N, 2**N))
    for i, taken in enumerate(allocations):
        for n in range(N):
            # The reward at n is known once n has been decided: of the past and of now alone.
            index = int("".join(map(str, taken[: n + 1])), 2)
            reward[i, n] = table[n, index]
    return logits, allocations, jnp.asarray(reward, jnp.float32)


def expected_return(logits, allocations, reward, cost_price):
    log_probs = jax.nn.log_softmax(logits)
    chosen = jnp.stack([log_probs[jnp.arange(N), a].sum() for a in jnp.asarray(allocations)])
    paid = reward.sum(axis=1) - cost_price * jnp.asarray(allocations, jnp.float32).sum(axis=1)
    return jnp.sum(jnp.exp(chosen) * paid)


@pytest.mark.parametrize("cost_price", [0.0, 0.3])
def test_the_gradient_is_that_of_the_exact_expectation(cost_price):
    """With no discount, and a baseline of earlier batches, within the error of the sample."""
    logits, allocations, reward = a_case()
    exact = jax.grad(expected_return)(logits, allocations, reward, cost_price)
    draws = 40_000
    taken = jax.random.categorical(
        jax.random.key(1), jnp.broadcast_to(logits[None], (draws, N, A)), axis=-1
    )
    place = jnp.asarray([2 ** (N - 1 - n) for n in range(N)])
    got = reward[(taken * place[None]).sum(axis=1)]
    mask = jnp.ones((draws, N), bool)
    baseline = Baseline(jnp.asarray([0.3, -0.2, 0.1]), jnp.ones(N))
    advantage, _ = credit(
        got, taken.astype(jnp.float32), mask, baseline, price=cost_price, gamma=1.0, momentum=0.9,
        normalised=False,
    )  # fmt: skip

    def objective(logits, taken, advantage):
        log_probs = jax.nn.log_softmax(logits)
        return -N * surrogate(log_probs[jnp.arange(N), taken][None], advantage[None], mask[:1])

    each = jax.vmap(jax.grad(objective), in_axes=(None, 0, 0))(logits, taken, advantage)
    error = np.asarray(each.std(axis=0)) / np.sqrt(draws)
    assert np.all(np.abs(np.asarray(each.mean(axis=0) - exact)) < 5 * error + 1e-6)
    assert np.abs(np.asarray(exact)).max() > 20 * error.max()  # the sample can tell


def test_credit_looks_ahead_only_and_ignores_padding():
    reward = jnp.asarray([[1.0, 2.0, 4.0, 1e6], [1.0, 0.0, 0.0, 1e6]])
    mask = jnp.asarray([[True] * 3 + [False], [True] * 3 + [False]])
    start = Baseline(jnp.zeros(4), jnp.ones(4))
    advantage, after = credit(
        reward, jnp.zeros((2, 4)), mask, start, price=0.0, gamma=0.5, momentum=0.0, normalised=False
    )
    assert np.allclose(advantage, [[3.0, 4.0, 4.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert np.allclose(after.value(), [2.0, 2.0, 2.0, 0.0])


def test_the_baseline_is_of_each_position_and_of_earlier_batches():
    """What has just been earned does not enter its own baseline, but in the very first batch."""
    reward, mask = jnp.asarray([[10.0, 1.0], [10.0, 1.0]]), jnp.ones((2, 2), bool)
    zero = jnp.zeros((2, 2))
    options = {"price": 0.0, "gamma": 0.0, "momentum": 0.5, "normalised": False}
    advantage, after = credit(reward, zero, mask, Baseline.start(2), **options)
    assert np.allclose(advantage, 0)
    assert np.allclose(after.value(), [10.0, 1.0])
    advantage, after = credit(2 * reward, zero, mask, after, **options)
    assert np.allclose(advantage, [[10.0, 1.0], [10.0, 1.0]])
    assert np.allclose(after.value(), [50 / 3, 5 / 3])


def test_the_price_is_the_slope_of_the_penalty():
    none = jnp.asarray(jnp.nan)
    weight = jnp.asarray(0.05)
    assert float(price(jnp.asarray(6.0), weight, jnp.asarray(4.0))) == pytest.approx(0.2)
    assert float(price(jnp.asarray(2.0), weight, jnp.asarray(4.0))) == pytest.approx(-0.2)
    assert float(price(jnp.asarray(2.0), weight, none)) == pytest.approx(0.05)


def test_advantages_are_normalised():
    reward = 1e3 * jax.random.normal(jax.random.key(0), (16, 8))
    advantage, _ = credit(
        reward, jnp.zeros((16, 8)), jnp.ones((16, 8), bool), Baseline(jnp.zeros(8), jnp.ones(8)),
        price=0.0, gamma=0.9, momentum=0.9,
    )  # fmt: skip
    assert float(jnp.mean(advantage**2)) == pytest.approx(1.0, abs=1e-3)


NETWORK = PolicyNetworkConfig(features=8, hidden=32)
CONFIG = ReinforceConfig(iterations=150, network=NETWORK, rate=1e-2)
WEIGHT = 5.0  # of the penalty where a budget is set


@pytest.fixture(scope="module")
def solved():
    """What REINFORCE makes of every probe, three seeds each: one program for all."""
    names = list(probes.PROBES)
    settings = jax.tree.map(
        lambda *x: jnp.stack([jnp.asarray(y, jnp.float32) for y in x]),
        *(probes.PROBES[name].setting for name in names),
    )
    keys = jax.random.split(jax.random.key(0), 3)

    def train(setting, key):
        collect = probes.collector(PPOConfig(network=NETWORK), setting)
        return reinforce(
            key, collect, CONFIG, units=probes.UNITS, weight=WEIGHT, budget=setting.budget
        )

    found = jax.jit(jax.vmap(jax.vmap(train, in_axes=(None, 0)), in_axes=(0, None)))(settings, keys)
    return {name: jax.tree.map(lambda x, i=i: x[i], found) for i, name in enumerate(names)}


def test_probe_constant_reward(solved):
    """The baseline comes to know the discounted number of units left at each position."""
    result = solved["constant reward"]
    _, _, mask = probes._draw(jax.random.key(1), NETWORK.features)
    left = mask[:, ::-1].astype(jnp.float32).cumsum(axis=1)[:, ::-1]
    gain = (1 - CONFIG.discount**left) / (1 - CONFIG.discount)
    truth = jnp.mean(gain, axis=0, where=mask)
    assert np.allclose(jax.vmap(Baseline.value)(result.baseline), truth[None], atol=0.35)
    assert float(truth[0] - truth[-1]) > 5  # one number for all positions would be far off


@pytest.mark.parametrize(("name", "least_left"), [("visible reward", 1), ("delayed reward", 3)])
def test_probe_follows_the_cue(solved, name, least_left):
    params = solved[name].params
    features, cue, _ = probes._draw(jax.random.key(1), NETWORK.features)
    matters = features[..., 0] * probes.UNITS > least_left - 0.5
    for seed in range(3):
        one = jax.tree.map(lambda x, seed=seed: x[seed], params)
        likeliest = jnp.argmax(log_policy(NETWORK, one, features), axis=-1)
        assert float(jnp.sum(matters & (likeliest == cue)) / jnp.sum(matters)) > 0.95


def test_probe_binding_budget(solved):
    """Near its budget (a penalty is soft), and spent where it pays: 1/4 a unit is random's."""
    result = solved["binding budget"]
    cost, reward = result.cost[:, -20:].mean(axis=1), result.reward[:, -20:].mean(axis=1)
    assert np.all(np.abs(np.asarray(cost) / 2.0 - 1) < 0.1)
    assert np.all(np.asarray(reward) > 0.34)


def test_probe_slack_budget(solved):
    """The penalty lets go: the best action, at 3 of 4, is nearly all that is left."""
    result = solved["slack budget"]
    assert np.all(np.asarray(result.action_mix[:, -20:, 1].mean(axis=1)) > 0.9)


def test_a_policy_without_critics_ignores_them(solved):
    """Only the actor learns: the critics of the network stay as they were drawn."""
    output = apply_policy(
        NETWORK,
        jax.tree.map(lambda x: x[0], solved["visible reward"].params),
        jnp.ones((2, 8)),
    )
    assert np.isfinite(np.asarray(output.logits)).all()
