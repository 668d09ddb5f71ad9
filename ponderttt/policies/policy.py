"""The policy protocol, and the uninformed policies: uniform, random at a budget, scheduled."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.optimize import linprog

from ponderttt import pytree
from ponderttt.errors import InputError
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Decision, Observation

NEEDS = ("entropy", "gradient_norm", "features")


@runtime_checkable
class Policy(Protocol):
    """Maps what is known by now to an action; pure, jittable, and a pytree itself.

    A stream of documents is read with one state: `init` where the stream starts, `reset` before
    each document (the first too), `act` on each of its units. Every environment carries it.
    """

    @property
    def actions(self) -> ActionSpace:
        """What it chooses from (static)."""

    @property
    def max_steps(self) -> int:
        """The most steps that it ever takes (static): what the masked dispatch pays."""

    @property
    def least_steps(self) -> int:
        """The fewest steps that it ever takes (static): above 0, scoring takes the slope too."""

    @property
    def needs(self) -> tuple[str, ...]:
        """What it reads of the observation that costs something (static): some of `NEEDS`."""

    @property
    def follows_stream(self) -> bool:
        """Whether a document's start depends on the documents before it (static).

        If so, documents wait for one another; if not, `reset` returns the same whatever was read.
        """

    def init(self, key: PRNGKeyArray) -> Any:
        """Its state at the start of a stream."""

    def reset(self, state: Any) -> Any:
        """Its state at a document's start: as it is for a policy that follows the stream."""

    def act(self, state: Any, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        """The decision for the unit just scored, and the next state."""


def decided(action: Int[Array, ""], log_prob: Float[Array, ""] | float = 0.0) -> Decision:
    """A decision without a value."""
    return Decision(action.astype(jnp.int32), jnp.asarray(log_prob), jnp.zeros(()))


class Memoryless:
    """What most policies share: the most steps of their actions, nothing that costs, no state."""

    actions: ActionSpace

    @property
    def follows_stream(self) -> bool:
        return False

    @property
    def max_steps(self) -> int:
        return self.actions.max_steps

    @property
    def least_steps(self) -> int:
        return min(self.actions.steps)

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def init(self, key: PRNGKeyArray) -> Any:
        return ()

    def reset(self, state: Any) -> Any:
        return state


@dataclass(frozen=True)
class UniformPolicy(Memoryless):
    """One action, always.

    >>> UniformPolicy("UPDATE_2").max_steps
    2
    """

    action: str
    actions: ActionSpace = CHUNK_ACTIONS

    def __post_init__(self):
        self.actions.position(self.action)

    @property
    def max_steps(self) -> int:
        return self.actions.steps[self.actions.position(self.action)]

    @property
    def least_steps(self) -> int:
        return self.max_steps

    def act(self, state, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        return decided(jnp.asarray(self.actions.position(self.action))), state


@dataclass(frozen=True)
class RandomPolicy(Memoryless):
    """An action drawn for every unit alike: uninformed, the yardstick of every policy.

    `probabilities` [A] sum to 1; `best_mix` finds those that spend a budget best.

    >>> mix = best_mix(np.array([0.0, 0.04, 0.06, 0.08]), budget=2.0)
    >>> mix.round(3).tolist()
    [0.5, 0.5, 0.0, 0.0]
    >>> RandomPolicy(jnp.asarray(mix)).max_steps
    4
    """

    probabilities: Float[Array, "A"]
    actions: ActionSpace = CHUNK_ACTIONS

    def act(self, state, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        return _drawn(key, jnp.asarray(self.probabilities)), state


@dataclass(frozen=True)
class SchedulePolicy(Memoryless):
    """`probabilities` [N, A] by the unit's position in the document: uninformed too."""

    probabilities: Float[Array, "N A"]
    actions: ActionSpace = CHUNK_ACTIONS

    @classmethod
    def first(
        cls, action: str, budget: float, units: int, actions: ActionSpace = CHUNK_ACTIONS
    ) -> "SchedulePolicy":
        """`action` from the start for as long as the budget lasts, and the cheapest after it.

        The unit at the border draws between the two, so that the mean cost is `budget`.
        """
        costs = actions.costs
        dear = actions.position(action)
        if not costs[0] <= budget <= costs[dear]:
            raise InputError(
                f"budget {budget:g} a unit cannot be met by {actions.names[0]} and {action}: "
                f"they cost {costs[0]:g} and {costs[dear]:g}"
            )
        share = units * (budget - costs[0]) / max(costs[dear] - costs[0], 1e-9)
        taken = np.clip(share - np.arange(units), 0.0, 1.0)
        table = np.zeros((units, len(costs)))
        table[:, 0] = 1 - taken
        table[:, dear] += taken
        return cls(jnp.asarray(table, jnp.float32), actions)

    def act(self, state, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        return _drawn(key, jnp.asarray(self.probabilities)[observation.unit]), state


def _drawn(key: PRNGKeyArray, probabilities: Float[Array, "A"]) -> Decision:
    log_probs = jnp.log(probabilities)
    action = jax.random.categorical(key, log_probs)
    return decided(action, log_probs[action])


pytree.register(UniformPolicy, meta_fields=["action", "actions"])
for _kind in (RandomPolicy, SchedulePolicy):
    pytree.register(_kind, meta_fields=["actions"])


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
