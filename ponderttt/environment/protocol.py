"""What a policy acts in: one protocol over text, and what its answers mean.

An allocation is the actions of a document's units. Nothing is worth deciding about the last unit,
which no later one could gain by: there are `A^(N-1)` allocations, whose last action is the
cheapest. Decisions lie in a tree, as in a heap: the first unit is node 0, and action a at node m
leads to node `A m + 1 + a`. Axes: E nodes with a decision, W allocations; A, B, N as everywhere.
"""

from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int, Key

from ponderttt.policies import Policy
from ponderttt.types import ActionSpace, Episode

Horizon = Literal["next", "rest"]
"""What an action is credited with: the next unit alone, or all later units if SKIP follows it."""


class Allocations(NamedTuple):
    """Allocations of each document; losses (nats a token) and costs are sums over units."""

    loss: Float[Array | np.ndarray, "B W"]
    cost: Float[Array | np.ndarray, "B W"]
    action: Int[Array | np.ndarray, "B W N"]


class Expected(NamedTuple):
    """What is expected of each document: nats a token, nominal cost, steps; means over units."""

    loss: Float[Array, "B"]
    cost: Float[Array, "B"]
    steps: Float[Array, "B"]


@runtime_checkable
class Environment(Protocol):
    """Documents in an order, in which policies act; each equals `rollout` where both can run."""

    @property
    def actions(self) -> ActionSpace:
        """What policies choose from (static)."""

    @property
    def num_documents(self) -> int:
        """B (static)."""

    @property
    def num_units(self) -> int:
        """N (static)."""

    @property
    def num_decisions(self) -> int:
        """How many units of a document a policy's decisions bind for (static): N or N - 1."""

    def select(self, index: Any) -> "Environment":
        """The documents at `index`, a slice or an integer array along B."""

    def run(self, policy: Policy, *, key: Key[Array, "*B"], state: Any = None) -> Episode:
        """The episode of every document under `policy`, as `rollout` reads them."""

    def allocations(self) -> Allocations:
        """Every allocation of every document: what oracles and schedules choose among."""

    def counterfactuals(
        self, episode: Episode, horizon: Horizon = "next"
    ) -> Float[np.ndarray, "*S B decisions A"]:
        """What each action at each decision of `episode` gains over the cheapest one there.

        Nats a token, over the units of `horizon`, after the decisions that `episode` took before;
        at the N - 1 units that a later one could gain by.
        Full feedback, for training and for looking, which no policy has.
        """

    def expected(self, probabilities: Float[Array, "B E A"]) -> Expected:
        """What is expected where the action at every node is drawn with these probabilities.

        Exact, over all allocations; for policies that depend on the node only.
        """
