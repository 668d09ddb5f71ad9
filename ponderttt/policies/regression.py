"""The threshold bandit: what each action gains, regressed on the features; then gain less price.

The strongest rival of a learned policy that is none itself: decisions one at a time. It is fitted
on what every action would have gained, full feedback that no policy has while it reads; with gains
on the next unit it gives no credit for what comes later.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ponderttt import pytree
from ponderttt.errors import InputError
from ponderttt.policies.budget import bracket
from ponderttt.policies.policy import Memoryless, decided
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Decision, Observation


@dataclass(frozen=True)
class ThresholdBandit(Memoryless):
    """`argmax_a (x w_a - price * cost_a)`, x the features and 1."""

    weights: Float[Array, "inputs A"]
    """The features and, as the last row, the constant."""
    price: Float[Array | np.ndarray, ""]
    """Nats a unit of cost: `at_budget` finds it."""
    actions: ActionSpace = CHUNK_ACTIONS

    @classmethod
    def fit(
        cls,
        features: Float[np.ndarray, "M F"],
        gains: Float[np.ndarray, "M A"],
        *,
        ridge: float = 1.0,
        actions: ActionSpace = CHUNK_ACTIONS,
    ) -> "ThresholdBandit":
        """Least squares with `ridge` on the features (not on the constant), from training units."""
        x, y = np.asarray(features, float), np.asarray(gains, float)
        if not len(x):
            raise InputError("no unit to fit the bandit on: expected one or more training units")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise InputError("features or gains are not finite: the bandit cannot be fitted")
        x = np.column_stack([x, np.ones(len(x))])
        penalty = ridge * np.diag([*np.ones(x.shape[1] - 1), 0.0])
        weights = np.linalg.lstsq(x.T @ x + penalty, x.T @ y, rcond=None)[0]
        return cls(jnp.asarray(weights, jnp.float32), jnp.zeros(()), actions)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features",)

    def at_budget(self, features: Float[np.ndarray, "M F"], budget: float) -> "ThresholdBandit":
        """With the price at which the (validation) units of `features` cost `budget` on average.

        By bisection: the mean cost falls as the price rises. A budget below the cheapest action is
        an `InputError`; one that no price has to be paid for leaves it at 0.
        """
        costs = np.asarray(self.actions.costs)
        if not budget >= costs.min():
            raise InputError(
                f"a budget of {budget:g} a unit is infeasible: the least feasible one is "
                f"{costs.min():g}, the cost of {self.actions.names[int(costs.argmin())]}"
            )
        expected = np.asarray(_expected(self.weights, jnp.asarray(features)), float)
        if not np.isfinite(expected).all():
            raise InputError("features or weights are not finite: no price meets a budget")

        def spent(price: float) -> float:
            return float(costs[np.argmax(expected - price * costs, axis=1)].mean())

        _, price = bracket(spent, budget)
        return replace(self, price=jnp.asarray(price, jnp.float32))

    def act(self, state, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        worth = _expected(self.weights, observation.features)
        return decided(jnp.argmax(worth - self.price * jnp.asarray(self.actions.costs))), state


def _expected(weights: Float[Array, "inputs A"], features: Float[Array, "*M F"]):
    return features @ weights[:-1] + jnp.broadcast_to(
        weights[-1], (*features.shape[:-1], weights.shape[1])
    )


pytree.register(ThresholdBandit, meta_fields=["actions"])
