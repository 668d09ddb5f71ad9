"""The uninformed policies: what they draw, and the best mix at a budget."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponderttt import policies
from ponderttt.errors import InputError
from ponderttt.models.policy_network import PolicyNetworkConfig, init_policy
from ponderttt.policies import (
    ActorCritic,
    EMAGate,
    EntropyBasedPolicy,
    Policy,
    RandomPolicy,
    SchedulePolicy,
    ThresholdBandit,
    UniformPolicy,
    best_mix,
)
from ponderttt.policies.actor_critic import Account
from ponderttt.policies.thresholds import HEURISTICS
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Observation

COSTS = np.asarray(CHUNK_ACTIONS.costs)
SEEN = Observation(jnp.zeros((), int), jnp.zeros(4), jnp.ones(4, bool), *jnp.zeros(5), jnp.zeros(0))


def test_fixed_never_moves():
    decision, _ = UniformPolicy("UPDATE_2").act((), SEEN, jax.random.key(0))
    assert int(decision.action) == 2
    assert UniformPolicy("UPDATE_2").max_steps == 2


def test_random_draws_its_probabilities():
    mix = jnp.asarray([0.1, 0.2, 0.3, 0.4])
    draw = jax.vmap(lambda key: RandomPolicy(mix).act((), SEEN, key)[0])
    decisions = draw(jax.random.split(jax.random.key(0), 4000))
    share = np.bincount(decisions.action, minlength=4) / 4000
    np.testing.assert_allclose(share, mix, atol=0.03)
    np.testing.assert_allclose(np.exp(decisions.log_prob), mix[decisions.action], rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=4, max_size=4), st.floats(1, 12))
def test_best_mix_meets_the_budget_and_no_mix_beats_it(gains, budget):
    mix = best_mix(np.asarray(gains), budget)
    assert mix.min() >= 0
    np.testing.assert_allclose([mix.sum(), mix @ COSTS], [1, budget], rtol=1e-6)
    # Any other mix at the budget is one of mixes of two actions that straddle it.
    below, above = np.flatnonzero(COSTS <= budget), np.flatnonzero(COSTS >= budget)
    others = [(i, j) for i in below for j in above if i != j]
    assert others
    for i, j in others:
        share = (budget - COSTS[i]) / (COSTS[j] - COSTS[i])
        assert (1 - share) * gains[i] + share * gains[j] <= mix @ gains + 1e-9


@pytest.mark.parametrize("budget", [0.5, 13.0])
def test_a_budget_out_of_reach_is_refused(budget):
    with pytest.raises(InputError, match="the actions cost 1 to 12"):
        best_mix(np.zeros(4), budget)


NETWORK = PolicyNetworkConfig(features=3, hidden=4)
POLICIES = {
    **{name: UniformPolicy(name) for name in CHUNK_ACTIONS.names},
    "random": RandomPolicy(jnp.full(4, 0.25)),
    "random, but certain": RandomPolicy(jnp.asarray([0.0, 1.0, 0.0, 0.0])),
    "schedule": SchedulePolicy.first("UPDATE_2", 2.0, 6),
    **{name: kind(jnp.asarray([1.0, 2.0, 3.0])) for name, kind in HEURISTICS.items()},
    "gate": EMAGate.calibrate([1.0, 2.0]),
    "gate on UPDATE_4": EMAGate.calibrate([1.0, 2.0], action="UPDATE_4"),
    "residual gate": EMAGate.calibrate([1.0, 2.0], growth=1.5),
    "bandit": ThresholdBandit(jnp.zeros((4, 4)), jnp.zeros(())),
    "actor": ActorCritic(init_policy(NETWORK, jax.random.key(0)), NETWORK),
    "actor with an account": ActorCritic(
        init_policy(NETWORK, jax.random.key(0)), NETWORK, Account.open(3.0)
    ),
}


def test_every_kind_of_policy_is_here():
    kinds = {kind for kind in vars(policies).values() if inspect.isclass(kind)}
    kinds -= {policies.Policy, policies.FeatureExtractor}
    assert kinds == {type(policy) for policy in POLICIES.values()}


@pytest.mark.parametrize("name", POLICIES)
def test_the_fewest_and_the_most_steps_are_bounds_of_what_is_taken(name):
    """A policy that may skip says so: only where none does is the slope taken with the score."""
    policy = POLICIES[name]
    assert isinstance(policy, Policy)
    assert 0 <= policy.least_steps <= policy.max_steps <= policy.actions.max_steps
    assert policy.least_steps == (policy.max_steps if name in CHUNK_ACTIONS.names else 0)
    seen, taken = SEEN._replace(features=jnp.zeros(3)), set()
    for signal in np.linspace(0.0, 20.0, 12):
        x = jnp.asarray(signal, jnp.float32)
        seen = seen._replace(
            unit=jnp.asarray(int(signal) % 6), token_nll=jnp.full(4, x), nll=x, inner_loss=x,
            entropy=x, gradient_norm=x,
        )  # fmt: skip
        key = jax.random.key(int(signal))
        decision, _ = policy.act(policy.reset(policy.init(key)), seen, key)
        taken.add(policy.actions.steps[int(decision.action)])
    assert policy.least_steps <= min(taken) and max(taken) <= policy.max_steps


def test_without_an_action_that_skips_every_policy_takes_a_step():
    actions = ActionSpace(("K2", "K1"), (2, 1), (2.0, 1.0))
    for policy in (
        RandomPolicy(jnp.full(2, 0.5), actions),
        EntropyBasedPolicy(jnp.asarray([1.0]), actions),
    ):
        assert (policy.least_steps, policy.max_steps) == (1, 2)
