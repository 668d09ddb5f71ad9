"""The policy protocol, and the uninformed policies: fixed, and random at a budget."""

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import linprog

from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Decision, InputError, Observation


class Policy(Protocol):
    """Maps what is known by now to an action; pure, jittable, and a pytree itself."""

    @property
    def actions(self) -> ActionSpace:
        """What it chooses from (static)."""

    @property
    def max_steps(self) -> int:
        """The most steps that it ever takes (static): what the masked dispatch pays."""

    def init(self, key: PRNGKeyArray) -> Any:
        """Its state at the start of a document."""

    def act(self, state: Any, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        """The decision for the unit just scored, and the next state."""


def _decision(action: jax.Array, log_prob: jax.Array) -> Decision:
    return Decision(action.astype(jnp.int32), log_prob, jnp.zeros(()))


@dataclass(frozen=True)
class Fixed:
    """One action, always."""

    action: str
    actions: ActionSpace = CHUNK_ACTIONS

    def __post_init__(self):
        self.actions.position(self.action)

    @property
    def max_steps(self) -> int:
        return self.actions.steps[self.actions.position(self.action)]

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def act(self, state, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        return _decision(jnp.asarray(self.actions.position(self.action)), jnp.zeros(())), state


@dataclass(frozen=True)
class Random:
    """An action drawn for every unit alike: uninformed, the yardstick of every policy.

    `probabilities` [A] sum to 1; `best_mix` finds those that spend a budget best.
    """

    probabilities: Float[Array, "A"]
    actions: ActionSpace = CHUNK_ACTIONS

    @property
    def max_steps(self) -> int:
        return self.actions.max_steps

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def act(self, state, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        log_probs = jnp.log(jnp.asarray(self.probabilities))
        action = jax.random.categorical(key, log_probs)
        return _decision(action, log_probs[action]), state


jax.tree_util.register_dataclass(Fixed, data_fields=[], meta_fields=["action", "actions"])
jax.tree_util.register_dataclass(Random, data_fields=["probabilities"], meta_fields=["actions"])


def best_mix(
    gains: Float[np.ndarray, "A"], budget: float, actions: ActionSpace = CHUNK_ACTIONS
) -> Float[np.ndarray, "A"]:
    """The probabilities that gain most at a mean cost of exactly `budget` a unit.

    A linear program: maximise `p . gains` subject to `p . costs = budget`, `sum p = 1`. `gains`
    (nats a unit) must come from validation documents. A budget out of reach is an `InputError`.
    """
    low, high = min(actions.costs), max(actions.costs)
    if not low <= budget <= high:
        raise InputError(
            f"budget {budget:g} a unit cannot be met: the actions cost {low:g} to {high:g}"
        )
    solution = linprog(
        -np.asarray(gains, float),
        A_eq=[actions.costs, np.ones(len(actions.costs))],
        b_eq=[budget, 1.0],
        bounds=(0.0, 1.0),
    )
    mix = np.clip(solution.x, 0.0, 1.0)
    return mix / mix.sum()
