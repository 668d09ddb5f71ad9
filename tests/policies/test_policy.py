"""The uninformed policies: what they draw, and the best mix at a budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponderttt.errors import InputError
from ponderttt.policies import RandomPolicy, UniformPolicy, best_mix
from ponderttt.types import CHUNK_ACTIONS, Observation

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
