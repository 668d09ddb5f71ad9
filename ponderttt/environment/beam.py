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
from ponderttt.environment.reading import Learned, begin, open_text, score, views
from ponderttt.environment.tree import descents
from ponderttt.errors import InputError
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.models.windowed_attention import Past
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Documents


class _Level(NamedTuple):
    """The allocations that are open, each read up to the same unit, which has been scored."""

    learned: Learned
    """As that unit found it: the past ends before it."""
    after: Past | tuple[()]
    """The past with that unit behind it."""
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
    window: Window | None = None,
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
    text, window = open_text(lm, adapter, documents, hidden, window)
    return _search(
        lm, adapter, text, jnp.asarray(prices, jnp.float32),
        width=width, actions=actions, window=window,
    )  # fmt: skip


@jax.jit(static_argnames=("width", "actions", "window"))
def _search(lm, adapter, text, prices, *, width, actions, window) -> Allocations:
    def document(text):
        tokens, mask = text.tokens, text.mask
        view_of = views(lm, adapter, text, window)
        length = tokens.shape[0]
        expand = partial(_expand, lm, adapter, view_of, tokens, mask, actions)
        level = _start(lm, adapter, view_of, tokens, mask, window)
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

    return jax.lax.map(document, text)


def _start(lm, adapter, view_of, tokens, mask, window) -> _Level:
    """The one allocation that has decided nothing, its first unit scored."""
    start = begin(lm, adapter, window, tokens.shape[1])
    learned = jax.tree.map(lambda x: x[None], start)
    loss, after = _losses(lm, adapter, learned, view_of, jnp.asarray(0), tokens, mask)
    history = jnp.zeros((1, tokens.shape[0]), jnp.int32)
    return _Level(learned, after, loss, jnp.zeros(1), history)


def _losses(lm, adapter, learned: Learned, view_of, n, tokens, mask):
    """Of unit n under each of `learned` [W, ...]: nats summed over tokens, over U; pasts after."""

    def one(learned):
        reading = adapter.read(lm, learned.fast, view_of(n, learned.past), learns=False)
        nll = score(lm, reading, tokens[n], mask[n], with_entropy=False).nll
        return jnp.sum(nll) / tokens.shape[1], reading.past

    return jax.vmap(one)(learned)


def _expand(lm, adapter, view_of, tokens, mask, actions, level: _Level, n) -> _Level:
    """Every action on unit n of every open allocation, and what unit n + 1 then loses."""
    width, num_actions = level.loss.shape[0], len(actions.names)

    def act(learned, after):
        moved = descents(lm, adapter, learned, view_of(n, learned.past), actions)[0]
        kept = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (num_actions, *x.shape)), after)
        return moved._replace(past=kept)

    learned = jax.vmap(act)(level.learned, level.after)
    learned = jax.tree.map(lambda w: w.reshape(width * num_actions, *w.shape[2:]), learned)
    losses, after = _losses(lm, adapter, learned, view_of, n + 1, tokens, mask)
    # A padded unit takes no step and costs nothing: its actions are one, the cheapest.
    real = jnp.any(mask[n])
    costs = jnp.where(real, jnp.asarray(actions.costs), 0.0)
    index = jnp.arange(num_actions)
    worth = jnp.where(real | (index == 0), 0.0, jnp.inf)
    history = jnp.repeat(level.action, num_actions, axis=0)
    return _Level(
        learned,
        after,
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
