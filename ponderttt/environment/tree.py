"""The exhaustive tree of allocations: every allocation of short documents, evaluated.

What a unit loses depends on the actions before it, of which N units of A actions have A^(N-1).
A common prefix is computed once, and all actions of a unit share one descent. Nodes lie as
`protocol` says. Axes: E nodes with a decision; A, B, N, U, F as everywhere.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ponderttt.environment.reading import Learned, begin, open_text, score, views
from ponderttt.errors import InputError
from ponderttt.inner.descent import descend
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import FeatureExtractor
from ponderttt.policies.features import DESCRIBED
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Documents, Observation, masked_mean

MOST_UNITS = 6
"""Longer documents have too many allocations."""
NODES_AT_ONCE = 16


class Tree(NamedTuple):
    """What each document loses and shows at every node; losses in nats, costs nominal."""

    token_nll: Float[Array, "B nodes U"]
    inner_loss: Float[Array, "B nodes"]
    entropy: Float[Array, "B E"]
    gradient_norm: Float[Array, "B E"]
    features: Float[Array, "B E F"]
    """Raw, at a budget of 1, and without what is known of the text: see `features_at`."""

    @property
    def nll(self) -> Float[Array, "B nodes"]:
        """Mean loss of each unit."""
        return self.token_nll.mean(axis=-1)


def first_nodes(units: int, actions: int = len(CHUNK_ACTIONS.names)) -> list[int]:
    """The first node of every unit, and how many nodes there are.

    >>> first_nodes(3)
    [0, 1, 5, 21]
    """
    return [(actions**n - 1) // (actions - 1) for n in range(units + 1)]


def units_of(tree: Tree, actions: ActionSpace = CHUNK_ACTIONS) -> int:
    """Units of the documents of `tree`."""
    return first_nodes(MOST_UNITS, len(actions.names)).index(tree.token_nll.shape[1])


def enumerate_allocations(
    units: int, actions: ActionSpace = CHUNK_ACTIONS
) -> Int[np.ndarray, "W N"]:
    """Every allocation, in the order of the last unit's nodes; the last action is the cheapest.

    >>> enumerate_allocations(3)[[0, 1, 4, 15]].tolist()
    [[0, 0, 0], [0, 1, 0], [1, 0, 0], [3, 3, 0]]
    """
    count = len(actions.names)
    index = np.arange(count ** (units - 1))
    digits = [index // count ** (units - 2 - n) % count for n in range(units - 1)]
    return np.stack([*digits, np.zeros_like(index)], axis=1)


def path_nodes(actions: Int[np.ndarray, "*W N"], count: int = 4) -> Int[np.ndarray, "*W N"]:
    """The nodes that allocations pass, one a unit."""
    nodes = [np.zeros(actions.shape[:-1], int)]
    for n in range(actions.shape[-1] - 1):
        nodes.append(count * nodes[-1] + 1 + actions[..., n])
    return np.stack(nodes, axis=-1)


def read_tree(
    lm: TransformerLM,
    adapter: Adapter,
    documents: Documents,
    *,
    actions: ActionSpace = CHUNK_ACTIONS,
    hidden: Float[Array | np.ndarray, "B N U D"] | None = None,
    window: Window | None = None,
) -> Tree:
    """Evaluate every allocation of full documents of 2 to 6 units; arguments as `rollout`'s."""
    b, n, u = documents.tokens.shape
    if not 2 <= n <= MOST_UNITS:
        raise InputError(
            f"documents of {n} units have {len(actions.names)}^{n - 1} allocations: expected 2 "
            f"to {MOST_UNITS} units"
        )
    if not np.asarray(documents.mask).all():
        raise InputError("a tree is read of full documents: expected no padding")
    text, window = open_text(lm, adapter, documents, hidden, window)
    return _read(lm, adapter, text, actions=actions, window=window)


def descents(
    lm: TransformerLM,
    adapter: Adapter,
    learned: Learned,
    view: Any,
    actions: ActionSpace,
) -> tuple[Learned, Float[Array, ""]]:
    """The fast weights and the rule's state after each action, [A, ...]; the first gradient's norm.

    One descent of the most steps passes them all. The past is left as it is, once for each action.
    """
    rule = adapter.rule

    def step(weights, _):
        fast, state, norm = descend(
            weights[0], view, jnp.asarray(1), max_steps=1, rule=rule, state=weights[1],
            gradient=lambda fast, view: adapter.gradient(lm, fast, view),
        )  # fmt: skip
        return (fast, state), ((fast, state), norm)

    weights = (learned.fast, learned.rule)
    _, (after, norms) = jax.lax.scan(step, weights, None, length=actions.max_steps)
    steps = np.asarray(actions.steps)
    ends = jax.tree.map(lambda start, path: jnp.stack([start, *path])[steps], weights, after)
    kept = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (len(steps), *x.shape)), learned.past)
    return Learned(ends[0], ends[1], kept), norms[0]


class _Nodes(NamedTuple):
    """The prefixes of allocations that end at a unit."""

    learned: Learned
    memory: Any
    spent: Float[Array, "W"]


@jax.jit(static_argnames=("actions", "window"))
def _read(lm, adapter, text, *, actions, window) -> Tree:
    extractor = FeatureExtractor.raw(budget=1.0)
    undescribed = jnp.zeros(len(DESCRIBED))
    steps, costs = jnp.asarray(actions.steps), jnp.asarray(actions.costs)

    def document(text):
        tokens, mask = text.tokens, text.mask
        view_of = views(lm, adapter, text, window)
        units, unit = tokens.shape

        def known(learned, n, with_entropy):
            view = view_of(jnp.asarray(n), learned.past)
            reading = adapter.read(lm, learned.fast, view, learns=False)
            found = score(lm, reading, tokens[n], mask[n], with_entropy)
            inner_loss = adapter.observed_loss(learned.fast, view, found.nll)
            return view, found, inner_loss, learned._replace(past=reading.past)

        def visit(node: _Nodes, n: int):
            view, found, inner_loss, learned = known(node.learned, n, True)
            seen = Observation(
                jnp.asarray(n), found.nll, mask[n], masked_mean(found.nll, mask[n]), inner_loss,
                node.spent, masked_mean(found.entropy, mask[n]), jnp.zeros(()), jnp.zeros(0),
            )  # fmt: skip
            features, memory = extractor.observe(
                node.memory, seen, found.entropy, found.max_log_prob, undescribed, units
            )
            learned, norm = descents(lm, adapter, learned, view, actions)

            def remember(a):
                return extractor.remember(memory, costs[a], steps[a], norm)

            memories = jax.vmap(remember)(jnp.arange(len(actions.names)))
            record = (found.nll, inner_loss, seen.entropy, norm, features)
            return record, _Nodes(learned, memories, node.spent + costs)

        def visit_last(learned):
            _, found, inner_loss, _ = known(learned, units - 1, False)
            return found.nll, inner_loss

        start = _Nodes(begin(lm, adapter, window, unit), extractor.init(), jnp.zeros(()))
        nodes = jax.tree.map(lambda x: x[None], start)
        seen = []
        for n in range(units - 1):
            at_once = min(NODES_AT_ONCE, len(nodes.spent))
            record, nodes = jax.lax.map(partial(visit, n=n), nodes, batch_size=at_once)
            nodes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), nodes)
            seen.append(record)
        last = jax.lax.map(visit_last, nodes.learned, batch_size=NODES_AT_ONCE)
        inside = [jnp.concatenate(parts) for parts in zip(*seen, strict=True)]
        return Tree(
            jnp.concatenate([inside[0], last[0]]),
            jnp.concatenate([inside[1], last[1]]),
            *inside[2:],
        )

    return jax.lax.map(document, text)
