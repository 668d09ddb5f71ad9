"""K gradient steps on an inner loss: the one place where fast weights change."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ponderttt.errors import InputError
from ponderttt.inner.fast_weights import Fast

Dispatch = Literal["masked", "switch"]
DISPATCHES = ("masked", "switch")
Order = Literal["predict_first", "adapt_first"]
"""Whether a unit is answered with the weights that it finds, or with those it leaves."""


def global_norm(grads: Fast) -> Float[Array, ""]:
    """The joint norm of all leaves, at least 1e-10: its own derivative must be finite."""
    squares = sum(jnp.sum(g**2) for g in jax.tree.leaves(grads))
    return jnp.sqrt(jnp.maximum(squares, 1e-20))


def clip_by_global_norm(grads: Fast, limit: Float[Array, ""]) -> Fast:
    """`grads`, scaled down so that their joint norm is at most `limit`."""
    scale = jnp.minimum(1.0, limit / global_norm(grads))
    return jax.tree.map(lambda g: g * scale, grads)


def most_steps(steps: int | Int[Array, "*N"], max_steps: int | None) -> int:
    """The bound on K: `max_steps`, or the most of `steps`; an `InputError` where they disagree."""
    if isinstance(steps, jax.core.Tracer):
        if max_steps is None:
            raise InputError("steps is traced: give max_steps, the most of them")
        return max_steps
    known = np.asarray(steps)
    low, high = int(known.min()), int(known.max())
    if low < 0:
        raise InputError(f"steps is {low}: expected 0 or more")
    if max_steps is not None and high > max_steps:
        raise InputError(f"steps is {high}: expected 0 to max_steps = {max_steps}")
    return high if max_steps is None else max_steps


def _scaled(rate: Float[Array, "*H"], leaf: jax.Array) -> jax.Array:
    """`rate * leaf`, with a per-head rate along the leaf's leading axis."""
    return rate.reshape(rate.shape + (1,) * (leaf.ndim - rate.ndim)) * leaf


class Descent(NamedTuple):
    """Where the fast weights arrived, and the norm of the first gradient (0 if no step)."""

    fast: Fast
    gradient_norm: Float[Array, ""]


def adapt(
    fast: Fast,
    views: Any,
    steps: Int[Array, ""],
    *,
    rate: Float[Array, "*H"],
    max_steps: int,
    loss: Callable[[Fast, Any], Float[Array, ""]] | None = None,
    gradient: Callable[[Fast, Any], Fast] | None = None,
    clip: Float[Array, ""] | None = None,
    decay: Float[Array, ""] | None = None,
    initial: Fast | None = None,
    dispatch: Dispatch = "masked",
) -> Fast:
    """Take `steps` gradient steps `W <- W - rate * clip(dl/dW) - decay * (W - W_initial)`.

    `loss(fast, views)` sees one unit of one document, so documents never mix; where its gradient is
    known, give `gradient(fast, views)` in its place. `masked` always runs
    `max_steps` steps and keeps the first `steps` (differentiable, for vmap and training); `switch`
    runs `steps` and no more (not differentiable: it is a loop of data-dependent length). Zero steps
    leave the weights bit-identical. `rate` is a scalar or one rate a head; `clip` bounds the joint
    gradient norm. `decay` needs `initial`. A traced `steps` above `max_steps` takes `max_steps`;
    a concrete one, or a negative one, is an `InputError`.
    """
    if (loss is None) == (gradient is None):
        raise InputError("adapt descends one thing: give it either loss= or gradient=")
    slope = gradient if loss is None else jax.grad(loss)
    assert slope is not None
    return descend(
        fast, views, steps, rate=rate, max_steps=max_steps, gradient=slope, clip=clip,
        decay=decay, initial=initial, dispatch=dispatch,
    ).fast  # fmt: skip


def descend(
    fast: Fast,
    views: Any,
    steps: Int[Array, ""],
    *,
    rate: Float[Array, "*H"],
    max_steps: int,
    gradient: Callable[[Fast, Any], Fast],
    clip: Float[Array, ""] | None = None,
    decay: Float[Array, ""] | None = None,
    initial: Fast | None = None,
    dispatch: Dispatch = "masked",
) -> Descent:
    """`adapt`, with the norm that the first gradient had before it was clipped."""
    if dispatch not in DISPATCHES:
        raise InputError(f"unknown dispatch {dispatch!r}: expected one of {', '.join(DISPATCHES)}")
    if max_steps < 0:
        raise InputError(f"max_steps is {max_steps}: expected 0 or more")
    if decay is not None and initial is None:
        raise InputError("decay pulls towards the initial weights: give them as initial=")
    most_steps(steps, max_steps)
    rate = jnp.asarray(rate)

    def step(fast):
        grads = gradient(fast, views)
        norm = global_norm(grads)
        if clip is not None:
            grads = clip_by_global_norm(grads, clip)
        moved = jax.tree.map(lambda w, g: w - _scaled(rate, g), fast, grads)
        if decay is not None:
            moved = jax.tree.map(lambda m, w, w0: m - decay * (w - w0), moved, fast, initial)
        return moved, norm

    nothing = jnp.zeros(())
    if dispatch == "switch":

        def run(i, at):
            moved, norm = step(at.fast)
            return Descent(moved, jnp.where(i == 0, norm, at.gradient_norm))

        return jax.lax.fori_loop(0, jnp.minimum(steps, max_steps), run, Descent(fast, nothing))

    remat = jax.checkpoint(step)  # the outer backward keeps one copy of the weights a step, no more

    def masked(fast, i):
        moved, norm = remat(fast)
        kept = jax.tree.map(lambda new, old: jnp.where(i < steps, new, old), moved, fast)
        return kept, jnp.where(i < steps, norm, 0.0)

    fast, norms = jax.lax.scan(masked, fast, jnp.arange(max_steps, dtype=jnp.asarray(steps).dtype))
    return Descent(fast, norms[0] if max_steps else nothing)
