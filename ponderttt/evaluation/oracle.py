"""The oracle: the allocation that would have been best, found by reading every way.

What a decision is worth shows on later units only, and depends on what is decided there, so the
oracle searches whole allocations. The tree of actions is searched level by level: what two
allocations have in common is computed once, and all actions of a unit share one descent.
Losses are nats a token, summed over units; costs are nominal, summed over units.
Axes: W allocations kept, L prices; A, B, N, U as everywhere.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ponderttt.inner.descent import descend
from ponderttt.models.adapters import Adapter, token_losses
from ponderttt.models.hidden import hidden_states
from ponderttt.models.lm import TransformerLM
from ponderttt.policies.prices import bracket
from ponderttt.rollout import views
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Documents, InputError

EXHAUSTIVE_UNITS = 6
"""Documents of up to so many units are searched whole: A^(N - 1) allocations."""


class Found(NamedTuple):
    """Allocations of each document, among them the best for every price that was asked for."""

    loss: Float[Array, "B W"]
    cost: Float[Array, "B W"]
    action: Int[Array, "B W N"]


class Chosen(NamedTuple):
    """What the oracle does at a budget: one value a document, means over its two solutions."""

    loss: Float[np.ndarray, "B"]
    cost: Float[np.ndarray, "B"]
    mix: Float[np.ndarray, "B N A"]
    """How often each action is taken at each unit."""
    price: float
    """Nats (a token, a unit) that a unit of cost is worth at this budget."""


class _Level(NamedTuple):
    """The allocations that are open, each read up to the same unit, which has been scored."""

    fast: Any
    loss: Float[Array, "W"]
    cost: Float[Array, "W"]
    action: Int[Array, "W N"]


def one_step(
    lm: TransformerLM,
    adapter: Adapter,
    documents: Documents,
    *,
    prices: Sequence[float] = (0.0,),
    actions: ActionSpace = CHUNK_ACTIONS,
    hidden: Float[Array | np.ndarray, "B N U D"] | None = None,
    chunk: int | None = None,
) -> Found:
    """For each price, the allocation that always takes what is best for the next unit alone.

    What a bandit with perfect knowledge of one step would do: W = L.
    """
    priced = _checked(prices)
    hidden, chunk = _states(lm, adapter, documents, hidden, chunk)
    return _one_step(lm, adapter, documents, hidden, priced, actions=actions, chunk=chunk)


def search(
    lm: TransformerLM,
    adapter: Adapter,
    documents: Documents,
    *,
    prices: Sequence[float] = (0.0,),
    width: int | None = None,
    actions: ActionSpace = CHUNK_ACTIONS,
    hidden: Float[Array | np.ndarray, "B N U D"] | None = None,
    chunk: int | None = None,
) -> Found:
    """The allocations with the least `loss + price * cost`, for each of `prices`.

    `width` None searches all of them, for documents of up to `EXHAUSTIVE_UNITS` units. Otherwise
    each price keeps the `width` best so far at every unit: a beam, which may miss the best, so
    that its gain is a lower bound on the oracle's. What takes one action throughout is kept too:
    a search that looks little ahead would drop what pays late. Nothing is kept twice, and every
    price chooses among all in the end. The last unit takes the cheapest action: no later
    unit is there to gain by it.
    """
    n = documents.tokens.shape[1]
    if width is None and n > EXHAUSTIVE_UNITS:
        raise InputError(
            f"an exhaustive search of {n} units would read {len(actions.names)}^{n - 1} ways: "
            f"expected {EXHAUSTIVE_UNITS} units at most, or a beam width"
        )
    if width is not None and width < 1:
        raise InputError(f"a beam of width {width} keeps nothing: expected 1 or more")
    priced = _checked(prices)
    hidden, chunk = _states(lm, adapter, documents, hidden, chunk)
    return _search(
        lm, adapter, documents, hidden, priced, width=width, actions=actions, chunk=chunk
    )


def _checked(prices: Sequence[float]) -> Float[Array, "L"]:
    if not len(prices) or min(prices) < 0:
        raise InputError(f"prices {list(prices)}: expected one or more, none below 0")
    return jnp.asarray(prices, jnp.float32)


def _states(lm, adapter, documents, hidden, chunk) -> tuple[jax.Array, int]:
    """The base's states, computed unless they are given, and its window."""
    chunk = documents.tokens.shape[2] if chunk is None else chunk
    if hidden is None:
        hidden = hidden_states(lm, documents, chunk=chunk, suffix_blocks=adapter.suffix_blocks)
    return jnp.asarray(hidden), chunk


@jax.jit(static_argnames=("width", "actions", "chunk"))
def _search(lm, adapter, documents, hidden, prices, *, width, actions, chunk) -> Found:
    def document(inputs):
        tokens, mask, states = inputs
        view_of = views(lm, adapter, tokens, mask, states, chunk)
        length = tokens.shape[0]
        expand = partial(_expand, lm, adapter, view_of, tokens, mask, actions)
        level = _start(lm, adapter, view_of, tokens, mask, 1)
        ways = len(actions.names)
        kept = None if width is None else width * prices.shape[0] + ways
        unit = 0
        # The tree's first levels are smaller than the beam, and have shapes of their own.
        while unit < length - 1 and (kept is None or level.loss.shape[0] < kept):
            level = expand(level, unit)
            if kept is not None and level.loss.shape[0] > kept:
                level = _keep(level, prices, width, ways, unit)
            unit += 1

        def advance(level, n):
            return _keep(expand(level, n), prices, width, ways, n), None

        if unit < length - 1:
            level, _ = jax.lax.scan(advance, level, jnp.arange(unit, length - 1))
        last = jnp.where(jnp.any(mask[-1]), actions.costs[0], 0.0)
        return Found(level.loss, level.cost + last, level.action)

    return jax.lax.map(document, (documents.tokens, documents.mask, hidden))


@jax.jit(static_argnames=("actions", "chunk"))
def _one_step(lm, adapter, documents, hidden, prices, *, actions, chunk) -> Found:
    count = prices.shape[0]

    def document(inputs):
        tokens, mask, states = inputs
        view_of = views(lm, adapter, tokens, mask, states, chunk)

        def advance(level, n):
            level = _expand(lm, adapter, view_of, tokens, mask, actions, level, n)
            value = (level.loss + jnp.repeat(prices, len(actions.names)) * level.cost).reshape(
                count, -1
            )
            index = jnp.arange(count) * len(actions.names) + jnp.argmin(value, axis=1)
            return jax.tree.map(lambda x: x[index], level), None

        start = _start(lm, adapter, view_of, tokens, mask, count)
        level, _ = jax.lax.scan(advance, start, jnp.arange(tokens.shape[0] - 1))
        last = jnp.where(jnp.any(mask[-1]), actions.costs[0], 0.0)
        return Found(level.loss, level.cost + last, level.action)

    return jax.lax.map(document, (documents.tokens, documents.mask, hidden))


def _start(lm, adapter, view_of, tokens, mask, width: int) -> _Level:
    """So many allocations that have decided nothing, their first unit scored."""
    fast = jax.tree.map(lambda w: jnp.broadcast_to(w[None], (width, *w.shape)), adapter.init(lm))
    loss = _losses(lm, adapter, fast, view_of(jnp.asarray(0)), tokens[0], mask[0])
    return _Level(fast, loss, jnp.zeros(width), jnp.zeros((width, tokens.shape[0]), jnp.int32))


def _losses(lm, adapter, fast, view, tokens, mask) -> Float[Array, "W"]:
    """Of one unit under each of the fast weights `[W, ...]`: nats summed over tokens, over U."""

    def one(fast):
        losses = token_losses(lm, adapter.hidden(lm, fast, view), tokens)
        return jnp.sum(jnp.where(mask, losses, 0.0)) / tokens.shape[0]

    return jax.vmap(one)(fast)


def _descents(lm, adapter, fast, view, actions: ActionSpace):
    """The fast weights after each action, [A, ...]: one descent of the most steps passes all."""

    def step(fast, _):
        moved = descend(
            fast, view, jnp.asarray(1), max_steps=1, rate=adapter.rate, clip=adapter.clip,
            decay=adapter.decay, initial=adapter.init(lm),
            gradient=lambda fast, view: adapter.gradient(lm, fast, view),
        ).fast  # fmt: skip
        return moved, moved

    _, after = jax.lax.scan(step, fast, None, length=actions.max_steps)
    steps = np.asarray(actions.steps)
    return jax.tree.map(lambda start, path: jnp.stack([start, *path])[steps], fast, after)


def _expand(lm, adapter, view_of, tokens, mask, actions, level: _Level, n) -> _Level:
    """Every action on unit n of every open allocation, and what unit n + 1 then loses."""
    width, count = level.loss.shape[0], len(actions.names)
    here = view_of(n)
    fast = jax.vmap(lambda fast: _descents(lm, adapter, fast, here, actions))(level.fast)
    fast = jax.tree.map(lambda w: w.reshape(width * count, *w.shape[2:]), fast)
    losses = _losses(lm, adapter, fast, view_of(n + 1), tokens[n + 1], mask[n + 1])
    # A padded unit takes no step and costs nothing: its actions are one, the cheapest.
    real = jnp.any(mask[n])
    costs = jnp.where(real, jnp.asarray(actions.costs), 0.0)
    ways = jnp.arange(count)
    worth = jnp.where(real | (ways == 0), 0.0, jnp.inf)
    history = jnp.repeat(level.action, count, axis=0)
    return _Level(
        fast,
        (level.loss[:, None] + worth[None]).reshape(-1) + losses,
        (level.cost[:, None] + costs[None]).reshape(-1),
        history.at[:, n].set(jnp.tile(ways, width)),
    )


def _keep(level: _Level, prices: Float[Array, "L"], width: int, ways: int, n) -> _Level:
    """What took one action up to unit n, and the `width` best others for each price."""
    so_far = jnp.arange(level.action.shape[1]) <= n
    steady = jnp.all((level.action == level.action[:, :1]) | ~so_far[None], axis=1)
    count = level.loss.shape[0]
    # There is one such row for each action, which sorting by (steadiness, action) brings to front.
    order = jnp.argsort(jnp.where(steady, level.action[:, 0], ways), stable=True)[:ways]
    free = jnp.ones(count, bool).at[order].set(False)
    chosen = [order]
    for i in range(prices.shape[0]):
        value = jnp.where(free, level.loss + prices[i] * level.cost, jnp.inf)
        best = jax.lax.top_k(-value, width)[1]
        free = free.at[best].set(False)
        chosen.append(best)
    index = jnp.concatenate(chosen)
    return jax.tree.map(lambda x: x[index], level)


def at_budget(
    found: Found, budget: float, units: int, actions: ActionSpace = CHUNK_ACTIONS
) -> Chosen:
    """The oracle of a stream: the price, by bisection, at which the documents cost `budget` a unit.

    Between the two solutions where the mean cost jumps over the budget, both are taken in the
    proportion that meets it exactly. A budget below the cheapest allocation is an `InputError`;
    one that nothing can spend to advantage is left unspent.
    """
    loss, cost = np.asarray(found.loss, float), np.asarray(found.cost, float) / units
    least = float(np.where(np.isfinite(loss), cost, np.inf).min(axis=1).mean())
    if budget < least - 1e-9:
        raise InputError(
            f"a budget of {budget:g} a unit is infeasible: the least feasible one is {least:g}"
        )

    def solve(price: float):
        return np.argmin(loss + price * units * cost + 1e-12 * cost, axis=1)

    rows = np.arange(len(loss))
    low, high = bracket(lambda price: float(cost[rows, solve(price)].mean()), budget)
    dear, cheap = solve(low), solve(high)
    above, below = cost[rows, dear].mean(), cost[rows, cheap].mean()
    share = 0.0 if above <= budget or above == below else (budget - below) / (above - below)
    taken = np.eye(len(actions.names))[np.asarray(found.action)]  # B W N A
    parts = [(share, dear), (1 - share, cheap)]
    return Chosen(
        sum(w * loss[rows, k] for w, k in parts),
        sum(w * cost[rows, k] for w, k in parts) * units,
        sum(w * taken[rows, k] for w, k in parts),
        high,
    )


def counterfactuals(
    lm: TransformerLM,
    adapter: Adapter,
    documents: Documents,
    taken: Int[Array | np.ndarray, "B N"],
    *,
    actions: ActionSpace = CHUNK_ACTIONS,
    hidden: Float[Array | np.ndarray, "B N U D"] | None = None,
    chunk: int | None = None,
) -> Float[Array, "B N A"]:
    """What each action on a unit gains on the next one over the cheapest, along the way `taken`.

    Nats a token; the last unit gains nothing. All actions are tried everywhere, those of `taken`
    are gone on with: full feedback, for training and for looking, which no policy has.
    """
    hidden, chunk = _states(lm, adapter, documents, hidden, chunk)
    return _counterfactuals(
        lm, adapter, documents, hidden, jnp.asarray(taken), actions=actions, chunk=chunk
    )


@jax.jit(static_argnames=("actions", "chunk"))
def _counterfactuals(lm, adapter, documents, hidden, taken, *, actions, chunk):
    def document(inputs):
        tokens, mask, states, way = inputs
        view_of = views(lm, adapter, tokens, mask, states, chunk)

        def read(fast, n):
            after = _descents(lm, adapter, fast, view_of(n), actions)
            losses = _losses(lm, adapter, after, view_of(n + 1), tokens[n + 1], mask[n + 1])
            return jax.tree.map(lambda w: w[way[n]], after), losses[0] - losses

        _, gains = jax.lax.scan(read, adapter.init(lm), jnp.arange(tokens.shape[0] - 1))
        return jnp.concatenate([gains, jnp.zeros((1, gains.shape[1]))])

    return jax.lax.map(document, (documents.tokens, documents.mask, hidden, taken))


def separable_gain(
    gains: Float[np.ndarray, "M A"], budget: float, actions: ActionSpace = CHUNK_ACTIONS
) -> float:
    """The most that units gain on average at `budget`, were their gains independent (nats a unit).

    The multiple-choice knapsack's linear relaxation, by its dual: the least over prices of
    `mean_m max_a (gain[m, a] - price * (cost_a - budget))`. It counts what an action gains on the
    next unit, not what it goes on to gain, so that it is a bound for one-step decisions only.
    """
    gains, costs = np.asarray(gains, float), np.asarray(actions.costs)
    if budget < costs.min():
        raise InputError(
            f"a budget of {budget:g} a unit is infeasible: the least feasible one is "
            f"{costs.min():g}"
        )
    # Convex and piecewise linear in the price: its kinks are where two actions tie.
    first, second = np.triu_indices(len(costs), 1)
    kinks = (gains[:, second] - gains[:, first]) / (costs[second] - costs[first])
    prices = np.unique(np.concatenate([[0.0], kinks[kinks > 0]]))
    low, high = 0, len(prices) - 1

    def value(i: int) -> float:
        return float((gains - prices[i] * (costs - budget)).max(axis=1).mean())

    while high - low > 2:
        third = (high - low) // 3
        if value(low + third) <= value(high - third):
            high -= third
        else:
            low += third
    return min(value(i) for i in range(low, high + 1))
