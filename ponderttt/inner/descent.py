"""K gradient steps on an inner loss: the one place where fast weights change."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ponderttt.errors import InputError
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules import RuleState, UpdateRule, global_norm

Dispatch = Literal["masked", "switch"]
DISPATCHES = ("masked", "switch")
Order = Literal["predict_first", "adapt_first"]
"""Whether a unit is answered with the weights that it finds, or with those it leaves."""


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


class Descent(NamedTuple):
    """Where the fast weights and the rule's state arrived, and the norm of the first gradient.

    The norm is 0 where no step was taken.
    """

    fast: Fast
    state: RuleState
    gradient_norm: Float[Array, ""]


def adapt(
    fast: Fast,
    views: Any,
    steps: Int[Array, ""],
    *,
    rule: UpdateRule,
    max_steps: int,
    loss: Callable[[Fast, Any], Float[Array, ""]] | None = None,
    gradient: Callable[[Fast, Any], Fast] | None = None,
    state: RuleState | None = None,
    first: Callable[[], Fast] | None = None,
    dispatch: Dispatch = "masked",
) -> Fast:
    """Take `steps` steps of `rule` along the gradient of `loss(fast, views)`.

    `loss` sees one unit of one document, so documents never mix; where its gradient is known, give
    `gradient(fast, views)` in its place. `masked` always runs `max_steps` steps and keeps the first
    `steps` (differentiable, for vmap and training); `switch` runs `steps` and no more (not
    differentiable: it is a loop of data-dependent length). Zero steps leave the weights
    bit-identical. A traced `steps` above `max_steps` takes `max_steps`; a concrete one, or a
    negative one, is an `InputError`. `state` and `first` are those of `descend`.
    """
    if (loss is None) == (gradient is None):
        raise InputError("adapt descends one thing: give it either loss= or gradient=")
    slope = gradient if loss is None else jax.grad(loss)
    assert slope is not None
    return descend(
        fast, views, steps, rule=rule, max_steps=max_steps, gradient=slope, state=state,
        first=first, dispatch=dispatch,
    ).fast  # fmt: skip


def descend(
    fast: Fast,
    views: Any,
    steps: Int[Array, ""],
    *,
    rule: UpdateRule,
    max_steps: int,
    gradient: Callable[[Fast, Any], Fast],
    state: RuleState | None = None,
    first: Callable[[], Fast] | None = None,
    dispatch: Dispatch = "masked",
) -> Descent:
    """`adapt`, with the rule's state, and the norm of the first gradient as the rule found it.

    `state` is what an earlier unit of the document left (None: `rule.init(fast)`); zero steps leave
    it bit-identical too. `first()` is the gradient at `fast`, where scoring has it already (or half
    of it: the backward); the steps after it call `gradient`. `switch` asks for it only where a step
    is taken.
    """
    if dispatch not in DISPATCHES:
        raise InputError(f"unknown dispatch {dispatch!r}: expected one of {', '.join(DISPATCHES)}")
    if max_steps < 0:
        raise InputError(f"max_steps is {max_steps}: expected 0 or more")
    most_steps(steps, max_steps)
    start = Descent(fast, rule.init(fast) if state is None else state, jnp.zeros(()))

    def step(fast: Fast, state: RuleState, grads: Fast) -> Descent:
        moved, left = rule.step(fast, grads, state)
        return Descent(moved, left, global_norm(grads))

    def later(fast: Fast, state: RuleState) -> Descent:
        return step(fast, state, gradient(fast, views))

    run = _switch if dispatch == "switch" else _masked
    head = (
        None if first is None or not max_steps else lambda: step(start.fast, start.state, first())
    )
    return run(start, steps, max_steps, head, later)


def _switch(start: Descent, steps, max_steps: int, head, later) -> Descent:
    """`steps` steps and no more, the first of them `head()` where it is given."""
    steps = jnp.minimum(steps, max_steps)
    if head is not None:
        start = jax.lax.cond(steps > 0, head, lambda: start)

    def run(i, at):
        moved = later(at.fast, at.state)
        norm = jnp.where(i == 0, moved.gradient_norm, at.gradient_norm)
        return moved._replace(gradient_norm=norm)

    return jax.lax.fori_loop(0 if head is None else 1, steps, run, start)


def _masked(start: Descent, steps, max_steps: int, head, later) -> Descent:
    """`max_steps` steps, of which the first `steps` are kept."""

    def selected(i, moved: Descent, found: Descent) -> Descent:
        return jax.tree.map(lambda new, old: jnp.where(i < steps, new, old), moved, found)

    begin = 0
    if head is not None:
        begin, start = 1, selected(0, jax.checkpoint(head)(), start)
    remat = jax.checkpoint(later)  # the outer backward keeps one copy of the weights a step

    def one(at, i):
        fast, state = at
        moved = selected(i, remat(fast, state), Descent(fast, state, jnp.zeros(())))
        return (moved.fast, moved.state), moved.gradient_norm

    numbers = jnp.arange(begin, max_steps, dtype=jnp.asarray(steps).dtype)
    (fast, state), norms = jax.lax.scan(one, (start.fast, start.state), numbers)
    return Descent(fast, state, norms[0] if max_steps and not begin else start.gradient_norm)
