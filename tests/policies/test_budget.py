"""The price that meets a budget: found, or refused, in a bounded number of steps."""

import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.allocation.oracle import at_budget
from ponderttt.environment.protocol import Allocations
from ponderttt.errors import InputError
from ponderttt.policies import ThresholdBandit
from ponderttt.policies.budget import DOUBLINGS, HALVINGS, bracket


def counted(spent):
    """`spent`, which gives up once it has been asked more often than a bounded search asks."""
    calls = []

    def ask(price):
        calls.append(price)
        assert len(calls) <= DOUBLINGS + HALVINGS + 3, "the search does not end"
        return spent(price)

    return ask


def test_the_price_meets_the_budget():
    for kink in (1e-6, 0.3, 7.0, 1e5):
        low, high = bracket(counted(lambda price, kink=kink: 3.0 if price < kink else 1.0), 2.0)
        assert low < kink <= high and high - low <= 1e-12 * max(1.0, kink)
    assert bracket(counted(lambda price: 1.0), 1.0) == (0.0, 0.0)


@pytest.mark.parametrize("budget", [1.0 - 1e-12, 0.0, -np.inf, np.nan])
def test_a_budget_that_no_price_meets_is_refused(budget):
    with pytest.raises(InputError, match="infeasible: 1 is spent at any price"):
        bracket(counted(lambda price: 1.0), budget)


def test_the_oracle_meets_a_budget_at_the_least_cost_however_it_was_rounded():
    """Just below it, within the rounding of a sum, is it; further below is refused."""
    rng = np.random.default_rng(0)
    cost = np.tile([3.0, 7.0], (5, 1))
    found = Allocations(rng.normal(size=(5, 2)), cost, np.tile([[0, 0, 0], [1, 1, 0]], (5, 1, 1)))
    for budget in (1.0, 1.0 - 5e-10, np.nextafter(1.0, 0.0)):
        chosen = at_budget(found, budget, 3)
        np.testing.assert_allclose(chosen.cost, 3.0)
        assert not chosen.mix[..., 1:].any()
    for budget in (1.0 - 1e-6, np.nan):
        with pytest.raises(InputError, match="infeasible: the least feasible one is 1"):
            at_budget(found, budget, 3)


def test_a_bandit_whose_gains_are_not_numbers_ends():
    bandit = ThresholdBandit(jnp.full((3, 4), jnp.nan).at[:, 0].set(0.0), jnp.zeros(()))
    with pytest.raises(InputError, match="not finite"):
        bandit.at_budget(np.ones((4, 2)), 2.0)
    fitted = ThresholdBandit(jnp.ones((3, 4)), jnp.zeros(()))
    for budget in (0.5, np.nan):
        with pytest.raises(InputError, match="the least feasible one is 1, the cost of SKIP"):
            fitted.at_budget(np.ones((4, 2)), budget)
