"""A tree that has been read as an environment: a walk, which computes nothing but the decisions."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from ponderttt import pytree
from ponderttt.environment.protocol import Allocations, Expected, Horizon
from ponderttt.environment.rollout import document_keys, start_state
from ponderttt.environment.tree import (
    Tree,
    enumerate_allocations,
    first_nodes,
    path_nodes,
    units_of,
)
from ponderttt.errors import InputError
from ponderttt.policies import FeatureExtractor, Policy
from ponderttt.policies.features import DESCRIBED, NAMES
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Decision, Episode, Observation, masked_mean


@dataclass(frozen=True)
class TreeEnvironment:
    """Every allocation of short documents, evaluated once: a policy acts by lookup.

    Equal to `rollout`, except that the last unit always takes the cheapest action. `features` are
    those of `features_at`; without them, policies that decide by features are refused.
    """

    tree: Tree
    features: Float[Array, "B E F"] | None = None
    actions: ActionSpace = CHUNK_ACTIONS

    @property
    def num_documents(self) -> int:
        return self.tree.token_nll.shape[0]

    @property
    def num_units(self) -> int:
        return units_of(self.tree, self.actions)

    @property
    def num_decisions(self) -> int:
        return self.num_units - 1

    def select(self, index: Any) -> "TreeEnvironment":
        return jax.tree.map(lambda x: x[index], self)

    def without_tokens(self) -> "TreeEnvironment":
        """With units for tokens: a hundredth of the size, for policies that read no tokens."""
        return replace(self, tree=self.tree._replace(token_nll=self.tree.nll[..., None]))

    def without(self, *groups: str) -> "TreeEnvironment":
        """With all features of `groups` at 0."""
        keep = FeatureExtractor.raw(budget=1.0).without(*groups).keep
        return replace(self, features=self._features() * keep[None, None])

    def with_noise(self, key: PRNGKeyArray, std: float) -> "TreeEnvironment":
        """With normal noise on the features: one draw a unit, for one of its nodes is met."""
        features = self._features()
        unit = node_units(self.num_units)
        shape = (len(features), self.num_decisions, features.shape[-1])
        # Drawn flat, for several axes compile slowly on a CPU.
        flat = jax.random.normal(key, (int(np.prod(shape)),))
        return replace(self, features=features + std * flat.reshape(shape)[:, unit])

    def run(self, policy: Policy, *, key: Key[Array, "*B"], state: Any = None) -> Episode:
        if self.features is None and "features" in policy.needs:
            raise InputError(
                f"{type(policy).__name__} decides by features: give the environment "
                "features=features_at(...)"
            )
        return _run(self, policy, document_keys(key, self.num_documents), state)

    def node_gains(self, horizon: Horizon) -> Float[np.ndarray, "B E A"]:
        """`counterfactuals` at every node with a decision."""
        worth = np.asarray(self.tree.nll, float)
        count, nodes = len(self.actions.names), worth.shape[1]
        if horizon == "rest":  # a node's own loss and that of the nodes that SKIP leads to
            for node in reversed(range((nodes - 1) // count)):
                worth[:, node] += worth[:, count * node + 1]
        children = worth[:, 1:].reshape(len(worth), -1, count)
        return children[..., :1] - children

    def counterfactuals(
        self, episode: Episode, horizon: Horizon = "next"
    ) -> Float[np.ndarray, "*S B decisions A"]:
        taken = np.asarray(episode.action)[..., : self.num_decisions]
        nodes = path_nodes(taken, len(self.actions.names))
        return self.node_gains(horizon)[np.arange(self.num_documents)[:, None], nodes]

    def allocations(self) -> Allocations:
        taken = enumerate_allocations(self.num_units, self.actions)
        return self._evaluate(np.broadcast_to(taken, (self.num_documents, *taken.shape)))

    def follow(self, choices: Int[np.ndarray, "B W E"]) -> Allocations:
        """The allocations that take `choices[b, w, m]` wherever they come by node m."""
        taken = np.zeros((*choices.shape[:2], self.num_units), int)
        node = np.zeros(choices.shape[:2], int)
        for n in range(self.num_decisions):
            taken[..., n] = np.take_along_axis(choices, node[..., None], axis=-1)[..., 0]
            node = len(self.actions.names) * node + 1 + taken[..., n]
        return self._evaluate(taken)

    def expected(self, probabilities: Float[Array, "B E A"]) -> Expected:
        units, count = self.num_units, len(self.actions.names)
        first = first_nodes(units, count)
        nll = self.tree.nll
        spends = [
            jnp.asarray(x, nll.dtype)[None, None] for x in (self.actions.costs, self.actions.steps)
        ]
        loss = nll[:, first[-2] :]
        spent = [jnp.full(loss.shape, x[0, 0, 0]) for x in spends]
        for n in reversed(range(units - 1)):
            here = slice(first[n], first[n + 1])
            p = probabilities[:, here]
            loss = nll[:, here] + jnp.sum(p * loss.reshape(p.shape), axis=-1)
            spent = [
                jnp.sum(p * (x + later.reshape(p.shape)), axis=-1)
                for x, later in zip(spends, spent, strict=True)
            ]
        return Expected(loss[:, 0] / units, spent[0][:, 0] / units, spent[1][:, 0] / units)

    def _evaluate(self, taken: Int[np.ndarray, "B W N"]) -> Allocations:
        nll = np.asarray(self.tree.nll, float)
        nodes = path_nodes(taken, len(self.actions.names))
        loss = np.take_along_axis(nll[:, None], nodes, axis=-1).sum(axis=-1)
        return Allocations(loss, np.asarray(self.actions.costs)[taken].sum(axis=-1), taken)

    def _features(self) -> Float[Array, "B E F"]:
        if self.features is None:
            raise InputError("the environment has no features: give it features=features_at(...)")
        return self.features


pytree.register(TreeEnvironment, meta_fields=["actions"])


@jax.jit
def features_at(
    tree: Tree, extractor: FeatureExtractor, described: Float[Array | np.ndarray, "B N described"]
) -> Float[Array, "B E F"]:
    """The features of every node with a decision, as `extractor` gives them to a policy.

    `described` is what `features.describe` says of the documents.
    """
    unit = node_units(units_of(tree))
    columns = np.array([NAMES.index(name) for name in DESCRIBED])
    left = NAMES.index("budget_left")
    spent = 1.0 - tree.features[..., left]
    raw = tree.features.at[..., left].set(1.0 - spent / extractor.budget)
    return extractor.standardise(raw.at[..., columns].set(jnp.asarray(described)[:, unit]))


def node_units(units: int) -> Int[np.ndarray, "E"]:
    """The unit of every node with a decision."""
    first = first_nodes(units)
    return np.repeat(np.arange(units - 1), np.diff(first)[:-1])


@jax.jit
def _run(environment: TreeEnvironment, policy: Policy, keys, state) -> Episode:
    tree, features = environment.tree, environment.features
    if features is None:
        features = jnp.zeros((*tree.entropy.shape, 0))
    read = partial(_walk_document, policy, units=environment.num_units)
    state = start_state(policy, keys) if state is None else state
    inputs = (tree, features, keys)
    if not policy.follows_stream:
        return jax.vmap(partial(read, state))(inputs)[1]
    return jax.lax.scan(read, state, inputs)[1]


def _walk_document(policy, state, inputs, *, units: int) -> tuple[Any, Episode]:
    """One document: the leaves of the tree and the features without their B axis."""
    tree, features, key = inputs
    actions = policy.actions
    steps, costs = jnp.asarray(actions.steps), jnp.asarray(actions.costs)
    mask = jnp.ones(tree.token_nll.shape[-1], bool)
    draws = jax.random.split(key)[1]

    def observe(node, n, spent, *signals):
        nll = tree.token_nll[node]
        return Observation(
            n, nll, mask, masked_mean(nll, mask), tree.inner_loss[node], spent, *signals
        )

    def record(decision, seen, state):
        return Episode(
            seen.token_nll, seen.nll, decision.action, steps[decision.action],
            costs[decision.action], seen.inner_loss, decision.log_prob, decision.value,
            seen.entropy, seen.gradient_norm, seen.features, mask, state,
        )  # fmt: skip

    def decide(carry, n):
        node, spent, state = carry
        seen = observe(node, n, spent, tree.entropy[node], tree.gradient_norm[node], features[node])
        decision, state = policy.act(state, seen, jax.random.fold_in(draws, n))
        child = len(actions.names) * node + 1 + decision.action
        return (child, spent + costs[decision.action], state), record(decision, seen, state)

    carry = (jnp.asarray(0), jnp.zeros(()), policy.reset(state))
    (node, spent, state), episode = jax.lax.scan(decide, carry, jnp.arange(units - 1))
    # The last unit takes the cheapest action; the policy sees it, for what it keeps of the stream.
    unknown = jnp.full((), jnp.nan)
    seen = observe(node, units - 1, spent, unknown, unknown, jnp.zeros(features.shape[-1]))
    seen = seen._replace(binding=jnp.asarray(False))
    state = policy.act(state, seen, jax.random.fold_in(draws, units - 1))[1]
    nothing = Decision(jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros(()))
    last = record(nothing, seen, state)
    return state, jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), episode, last)
