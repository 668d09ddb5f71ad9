"""A policy on a tree that has been read: a walk, which computes nothing but the decisions."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ponderttt.environment.rollout import document_keys, start_state
from ponderttt.environment.tree import Tree, first_nodes, units_of
from ponderttt.errors import InputError
from ponderttt.policies import FeatureExtractor, Policy
from ponderttt.policies.features import DESCRIBED, NAMES
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Decision, Episode, Observation, masked_mean


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


def without_tokens(tree: Tree) -> Tree:
    """`tree` with units for tokens: a hundredth of the size, for policies that read no tokens."""
    return tree._replace(token_nll=tree.nll[..., None])


def node_units(units: int) -> Int[np.ndarray, "E"]:
    """The unit of every node with a decision."""
    first = first_nodes(units)
    return np.repeat(np.arange(units - 1), np.diff(first)[:-1])


def expected(
    tree: Tree,
    probabilities: Float[Array, "B E A"],
    actions: ActionSpace = CHUNK_ACTIONS,
) -> tuple[Float[Array, "B"], Float[Array, "B"], Float[Array, "B"]]:
    """Mean loss, cost and steps a unit of each document where actions are drawn at every node.

    Exact, over all ways: no draws are taken. For policies that remember nothing but the node.
    """
    units = units_of(tree, actions)
    first = first_nodes(units, len(actions.names))
    nll = tree.nll
    spends = [jnp.asarray(x, nll.dtype)[None, None] for x in (actions.costs, actions.steps)]
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
    return loss[:, 0] / units, spent[0][:, 0] / units, spent[1][:, 0] / units


def walk(
    tree: Tree,
    policy: Policy,
    *,
    key: Key[Array, "*B"],
    features: Float[Array, "B E F"] | None = None,
    state: Any = None,
) -> Episode:
    """The episode of every document under `policy`, in the order of the stream.

    As `rollout` with the same key and state reads them.
    """
    if features is None:
        if "features" in policy.needs:
            raise InputError(
                f"{type(policy).__name__} decides by features: give walk features=features_at(...)"
            )
        features = jnp.zeros((*tree.entropy.shape, 0))
    return _walk(tree, policy, features, document_keys(key, tree.token_nll.shape[0]), state)


@jax.jit
def _walk(tree: Tree, policy, features, keys, state) -> Episode:
    read = partial(_walk_document, policy, units=units_of(tree, policy.actions))
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
