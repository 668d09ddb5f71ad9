"""A beam over allocations, for documents that have too many to evaluate them all.

The tree of actions is searched level by level: what two allocations have in common is computed
once, and all actions of a unit share one descent.
Axes: W allocations kept; the others as everywhere.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ponderttt.environment.protocol import Allocations
from ponderttt.environment.rollout import views
from ponderttt.environment.tree import descents, start_weights
from ponderttt.errors import InputError
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules import RuleState
from ponderttt.models.adapters.protocol import Adapter, token_losses
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Documents


class _Level(NamedTuple):
    """The allocations that are open, each read up to the same unit, which has been scored."""

    weights: tuple[Fast, RuleState]
    loss: Float[Array, "W"]
    cost: Float[Array, "W"]
    action: Int[Array, "W N"]


def search(
    lm: TransformerLM,
    adapter: Adapter,
    documents: Documents,
    *,
    prices: Sequence[float] = (0.0,),
    width: int,
    actions: ActionSpace = CHUNK_ACTIONS,
    hidden: Float[Array | np.ndarray, "B N U D"] | None = None,
    chunk: int | None = None,
) -> Allocations:
    """The allocations with the least `loss + price * cost` that a beam finds, for each price.

    Each of `prices` keeps the `width` best so far at every unit, which may miss the best: the gain
    is a lower bound on the oracle's. What takes one action throughout is kept too: a search that
    looks little ahead would drop what pays late. Nothing is kept twice, and every price chooses
    among all in the end. The last unit takes the cheapest action: no later unit is there to gain
    by it.
    """
    if width < 1:
        raise InputError(f"a beam of width {width} keeps nothing: expected 1 or more")
    if not len(prices) or min(prices) < 0:
        raise InputError(f"prices {list(prices)}: expected one or more, none below 0")
    chunk = documents.tokens.shape[2] if chunk is None else chunk
    if hidden is None:
        hidden = hidden_states(lm, documents, chunk=chunk, suffix_blocks=adapter.suffix_blocks)
    return _search(
        lm, adapter, documents, jnp.asarray(hidden), jnp.asarray(prices, jnp.float32),
        width=width, actions=actions, chunk=chunk,
    )  # fmt: skip


@jax.jit(static_argnames=("width", "actions", "chunk"))
def _search(lm, adapter, documents, hidden, prices, *, width, actions, chunk) -> Allocations:
    def document(inputs):
        tokens, mask, states = inputs
        view_of = views(lm, adapter, tokens, mask, states, chunk)
        length = tokens.shape[0]
        expand = partial(_expand, lm, adapter, view_of, tokens, mask, actions)
        level = _start(lm, adapter, view_of, tokens, mask, 1)
        num_actions = len(actions.names)
        kept = width * prices.shape[0] + num_actions
        unit = 0
        # The tree's first levels are smaller than the beam, and have shapes of their own.
        while unit < length - 1 and level.loss.shape[0] < kept:
            level = expand(level, unit)
            if level.loss.shape[0] > kept:
                level = _keep(level, prices, width, num_actions, unit)
            unit += 1

        def advance(level, n):
            return _keep(expand(level, n), prices, width, num_actions, n), None

        if unit < length - 1:
            level, _ = jax.lax.scan(advance, level, jnp.arange(unit, length - 1))
        last = jnp.where(jnp.any(mask[-1]), actions.costs[0], 0.0)
        return Allocations(level.loss, level.cost + last, level.action)

    return jax.lax.map(document, (documents.tokens, documents.mask, hidden))


def _start(lm, adapter, view_of, tokens, mask, width: int) -> _Level:
    """So many allocations that have decided nothing, their first unit scored."""
    start = start_weights(lm, adapter)
    weights = jax.tree.map(lambda w: jnp.broadcast_to(w[None], (width, *w.shape)), start)
    loss = _losses(lm, adapter, weights[0], view_of(jnp.asarray(0)), tokens[0], mask[0])
    return _Level(weights, loss, jnp.zeros(width), jnp.zeros((width, tokens.shape[0]), jnp.int32))


def _losses(lm, adapter, fast, view, tokens, mask) -> Float[Array, "W"]:
    """Of one unit under each of the fast weights `[W, ...]`: nats summed over tokens, over U."""

    def one(fast):
        losses = token_losses(lm, adapter.hidden(lm, fast, view), tokens)
        return jnp.sum(jnp.where(mask, losses, 0.0)) / tokens.shape[0]

    return jax.vmap(one)(fast)


def _expand(lm, adapter, view_of, tokens, mask, actions, level: _Level, n) -> _Level:
    """Every action on unit n of every open allocation, and what unit n + 1 then loses."""
    width, num_actions = level.loss.shape[0], len(actions.names)
    here = view_of(n)
    weights = jax.vmap(lambda w: descents(lm, adapter, w, here, actions)[0])(level.weights)
    weights = jax.tree.map(lambda w: w.reshape(width * num_actions, *w.shape[2:]), weights)
    losses = _losses(lm, adapter, weights[0], view_of(n + 1), tokens[n + 1], mask[n + 1])
    # A padded unit takes no step and costs nothing: its actions are one, the cheapest.
    real = jnp.any(mask[n])
    costs = jnp.where(real, jnp.asarray(actions.costs), 0.0)
    index = jnp.arange(num_actions)
    worth = jnp.where(real | (index == 0), 0.0, jnp.inf)
    history = jnp.repeat(level.action, num_actions, axis=0)
    return _Level(
        weights,
        (level.loss[:, None] + worth[None]).reshape(-1) + losses,
        (level.cost[:, None] + costs[None]).reshape(-1),
        history.at[:, n].set(jnp.tile(index, width)),
    )


def _keep(level: _Level, prices: Float[Array, "prices"], width: int, num_actions: int, n) -> _Level:
    """What took one action up to unit n, and the `width` best others for each price."""
    so_far = jnp.arange(level.action.shape[1]) <= n
    steady = jnp.all((level.action == level.action[:, :1]) | ~so_far[None], axis=1)
    count = level.loss.shape[0]
    # There is one such row for each action, which sorting by (steadiness, action) brings to front.
    order = jnp.argsort(jnp.where(steady, level.action[:, 0], num_actions), stable=True)[
        :num_actions
    ]
    free = jnp.ones(count, bool).at[order].set(False)
    chosen = [order]
    for i in range(prices.shape[0]):
        value = jnp.where(free, level.loss + prices[i] * level.cost, jnp.inf)
        best = jax.lax.top_k(-value, width)[1]
        free = free.at[best].set(False)
        chosen.append(best)
    index = jnp.concatenate(chosen)
    return jax.tree.map(lambda x: x[index], level)
