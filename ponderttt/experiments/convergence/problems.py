"""Least-squares problems whose limit is known: made ones, and those of real hidden states.

The distance to the limit after each step, beside what the spectrum says that it must be.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from ponderttt.inner import learn
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.limit import curvature, joined, largest_stable_rate, limit
from ponderttt.inner.objectives import weighted_gradient

TOKENS, WIDTH = 128, 32  # of the made problems


class Descent(NamedTuple):
    """One unit's gradient descent, step by step; entry 0 is before the first.

    `gap` is the distance to the limit, `expected` what theory makes of it (both over the first),
    `excess` the inner loss over the limit's, over the first; `dual` the gap after the dual form of
    the whole unit. `slowest` is `max |1 - rate * eigenvalue|`, `condition` the spread of those that
    are not 0, `stable` the largest rate that converges.
    """

    gap: Float[Array, "S"]
    expected: Float[Array, "S"]
    excess: Float[Array, "S"]
    dual: Float[Array, ""]
    slowest: Float[Array, ""]
    condition: Float[Array, ""]
    stable: Float[Array, ""]


def descend(fast: Fast, k: Float[Array, "U d"], v: Float[Array, "U d"], steps: int) -> Descent:
    """`steps` steps on one unit, at the rate 1 / largest eigenvalue (half the largest stable)."""
    unit = k.shape[0]
    there = limit(fast, k, v)
    spectrum, modes = curvature(k)
    rate = 1 / spectrum[-1]
    weight = jnp.full(unit, 1 / unit)

    def distance(fast):
        return jnp.sqrt(sum(jnp.sum((fast[name] - there[name]) ** 2) for name in fast))

    def excess(fast):  # of the quadratic, without the cancellation of a difference of losses
        error = k @ (fast["w"] - there["w"]) + (fast["b"] - there["b"])[None]
        return 0.5 * jnp.sum(error**2) / unit

    def step(fast, _):
        grads = weighted_gradient(fast, k, v, weight, model="linear", norm=None)
        moved = jax.tree.map(lambda w, g: w - rate * g, fast, grads)
        return moved, (distance(moved), excess(moved))

    _, (gaps, losses) = jax.lax.scan(step, fast, None, length=steps)
    first, above = distance(fast), excess(fast)
    _, after = learn(
        fast, k, k, v, rate=jnp.full(unit, rate), unit=unit, max_steps=1, method="dual"
    )
    real = spectrum > 1e-6 * spectrum[-1]
    return Descent(
        jnp.concatenate([jnp.ones(1), gaps / first]),
        _expected(joined(fast) - joined(there), 1 - rate * spectrum, modes, steps) / first,
        jnp.concatenate([jnp.ones(1), losses / above]),
        distance(after) / first,
        jnp.max(jnp.where(real, jnp.abs(1 - rate * spectrum), 0)),
        spectrum[-1] / jnp.min(jnp.where(real, spectrum, jnp.inf)),
        2 / spectrum[-1],
    )


def _expected(gap, shrink, modes, steps):
    """The gap in the eigenvectors' coordinates: each shrinks by its own factor at every step."""
    along = jnp.sum((modes.T @ gap) ** 2, axis=-1)
    powers = jnp.abs(shrink)[None] ** jnp.arange(steps + 1, dtype=float)[:, None]
    return jnp.sqrt(jnp.sum(powers**2 * along[None], axis=-1))


def conditioned(condition: float, seed: int) -> tuple[Fast, jax.Array, jax.Array]:
    """A made unit (start, keys, values) whose spectrum runs evenly from 1 / `condition` to 1."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(TOKENS, WIDTH + 1)))[0]
    # The column of ones that is the bias's key is one of the directions; keys stand across it.
    left = left - left.mean(axis=0)
    left = np.linalg.qr(left)[0][:, :WIDTH]
    right = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    spectrum = np.linspace(1 / condition, 1, WIDTH)
    k = (left * np.sqrt(TOKENS * spectrum)) @ right.T
    v = k @ rng.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5 + 0.1 * rng.normal(size=(TOKENS, WIDTH))
    fast = {"w": jnp.zeros((WIDTH, WIDTH)), "b": jnp.zeros(WIDTH)}
    return fast, jnp.asarray(k, jnp.float32), jnp.asarray(v, jnp.float32)


def fitted_rate(gap: np.ndarray, *, floor: float = 1e-5) -> float:
    """The factor per step that the second half of a descent shrank by, while above `floor`."""
    last = int(np.argmax(gap <= floor)) or len(gap)
    steps = np.arange(last // 2, last)
    return float(np.exp(np.polyfit(steps, np.log(gap[steps]), 1)[0]))


def made(conditions: tuple[float, ...], problems: int) -> list[tuple[float, int, Descent]]:
    """(condition number, seed, descent) of the made problems, long enough to see their rate."""
    found = []
    for condition in conditions:
        units = [conditioned(condition, seed) for seed in range(problems)]
        steps = int(min(6000, 12 * condition + 20))
        stacked = jax.tree.map(lambda *x: np.stack(x), *units)
        descents = _descend_all(*stacked, steps)
        for seed in range(problems):
            one = jax.tree.map(lambda x, seed=seed: np.asarray(x)[seed], descents)
            found.append((condition, seed, one))
    return found


@partial(jax.jit, static_argnums=0)
def _views(graph, state, hidden):
    layer = nnx.merge(graph, state)
    mask = jnp.ones(hidden.shape[1], bool)
    views = jax.vmap(lambda h: layer.views(h.astype(jnp.float32), mask))(hidden)
    return layer.initial_fast(), views.k, views.v


_stable_rates = jax.jit(jax.vmap(jax.vmap(largest_stable_rate)))
_descend_all = jax.jit(jax.vmap(descend, in_axes=(0, 0, 0, None)), static_argnums=3)


def of_document(layer, hidden: Float[np.ndarray, "N U D"], steps: int) -> Descent:
    """The descents of every head on every unit of a document, leaves [N * H, ...].

    The layer is linear and without a norm; each unit starts from the document's initial weights.
    """
    fast, k, v = _views(*nnx.split(layer), hidden)  # k, v [N, H, U, d]
    n = k.shape[0]
    fast = jax.tree.map(lambda w: jnp.tile(w, (n,) + (1,) * (w.ndim - 1)), fast)
    k, v = (x.reshape(-1, *x.shape[2:]) for x in (k, v))
    return jax.tree.map(np.asarray, _descend_all(fast, k, v, steps))


def stable_rates(layer, hidden: Float[np.ndarray, "N U D"]) -> np.ndarray:
    """The largest stable rate of every unit and head, [N, H]."""
    _, k, _ = _views(*nnx.split(layer), hidden)
    return np.asarray(_stable_rates(k))
