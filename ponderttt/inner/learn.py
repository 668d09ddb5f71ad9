"""One interface to every way of descending the reconstruction loss along a text.

| method | what it needs | what it costs |
|---|---|---|
| `primal` | nothing | K gradients a unit, one unit after another |
| `factored` | units of one token | K gradients, but the weights are written once a token |
| `dual` | one step, units of several tokens | matrix products, one unit after another |
| `closed_form` | linear, no norm, units of one token | one rank-1 step a token, whatever K is |
| `chunkwise` | the same | matrix products, 16 tokens at once, whatever K is |
| `limit` | linear, no norm | one linear solve a unit: infinitely many steps |
| `conjugate_gradient` | linear, no norm | up to K iterations a unit, until it is near enough |
"""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ponderttt.errors import InputError
from ponderttt.inner import closed_form, limit, mini_batch
from ponderttt.inner.descent import Order, adapt, most_steps
from ponderttt.inner.dual import dual
from ponderttt.inner.factored import factored
from ponderttt.inner.fast_weights import FAST_WEIGHTS, Fast
from ponderttt.inner.objectives import Norm, answer, weighted_gradient
from ponderttt.inner.update_rules import SGD

Method = Literal[
    "auto", "primal", "factored", "dual", "closed_form", "chunkwise", "limit", "conjugate_gradient"
]
METHODS = tuple(name for name in get_args(Method) if name != "auto")
MOST_FACTORS = 32
"""Above so many steps on a token, products with an mlp's factors take more than with its weights.

At `d m / (d + m)`, for heads of 64 and as many hidden units.
"""


def learn(
    fast: Fast,
    q: Float[Array, "*lead T d"],
    k: Float[Array, "*lead T d"],
    v: Float[Array, "*lead T d"],
    *,
    rate: Float[Array, "*lead T"],
    steps: int | Int[Array, "*lead N"] = 1,
    max_steps: int | None = None,
    unit: int = 1,
    position: Float[Array, "U"] | None = None,
    model: str = "linear",
    norm: Norm | None = None,
    order: Order = "adapt_first",
    method: Method = "auto",
) -> tuple[Float[Array, "*lead T d"], Fast]:
    """Answer the queries of texts while learning their keys' values; `*lead` are heads, documents.

    A unit's gradient is `sum_j rate[j] dl_j/dW / U` over its tokens. `predict_first` answers a unit
    with the weights that it finds. `adapt_first` answers token i with the steps that the unit's
    tokens up to i have caused, `position[i] * sum_{j<=i} rate[j] dl_j/dW` (`position` is 1/U unless
    given): causal for one step, or for units of one token, and refused otherwise. Keys in bfloat16
    are learned in float32, and answered in bfloat16.

    Differentiable in reverse; forward mode (`jax.jvp`) needs `primal` where `auto` would take
    `dual` or `factored`.

    `steps` is K, for all N units or for each (`max_steps` bounds it, and is needed under jit).
    `auto` takes the cheapest method that is exact. What a method cannot do is an `InputError` that
    names one that can; so is a rate that makes a linear iteration diverge, where it is not traced.
    """
    length, narrow = q.shape[-2], q.dtype == jnp.bfloat16
    if unit < 1 or length % unit:
        raise InputError(f"a unit of {unit} tokens does not divide a text of {length} tokens")
    max_steps = most_steps(steps, max_steps)
    if max_steps < 0:
        raise InputError(f"max_steps is {max_steps}: expected 0 or more")
    method = _choose(method, model, norm, unit, order, max_steps)
    _check(fast, q, k, v, rate, position, model, norm, unit, order, max_steps, method)
    if narrow:
        q, k, v, rate = (x.astype(jnp.float32) for x in (q, k, v, rate))
    if position is None:
        position = jnp.full(unit, 1 / unit, rate.dtype)
    elif narrow:
        position = position.astype(jnp.float32)
    if norm is None and model == "linear" and method not in ("limit", "conjugate_gradient"):
        _check_stable(k, rate, position, "b" in fast, unit, order)
    steps = jnp.clip(jnp.asarray(steps, jnp.int32), 0, max_steps)
    steps = jnp.broadcast_to(steps, (*q.shape[:-2], length // unit))
    out, fast = _descend(
        fast, q, k, v, rate, steps, position,
        max_steps=max_steps, unit=unit, model=model, norm=norm, order=order, method=method,
    )  # fmt: skip
    return out.astype(jnp.bfloat16) if narrow else out, fast


def _descend(
    fast, q, k, v, rate, steps, position, *, max_steps, unit, model, norm, order, method
) -> tuple[Float[Array, "*lead T d"], Fast]:
    """`learn` once everything is known to fit."""
    if method in ("closed_form", "chunkwise"):
        descend = closed_form.closed_form if method == "closed_form" else closed_form.chunkwise
        return descend(fast, q, k, v, rate, steps, max_steps=max_steps, order=order)
    if method == "factored":
        return factored(
            fast, q, k, v, rate, steps, max_steps=max_steps, model=model, norm=norm, order=order
        )
    if order == "adapt_first" and unit > 1:
        # A unit that takes no step is one whose tokens pull at nothing.
        taken = jnp.repeat(steps, unit, axis=-1)
        rates = mini_batch.Rates(position, rate * taken.astype(rate.dtype))
        if method == "dual":
            return dual(fast, q, k, v, rates, model=model, norm=norm)
        start = mini_batch.begin(fast)
        out, reading = mini_batch.primal(start, q, k, v, rates, model=model, norm=norm)
        return out, reading.fast
    read = partial(
        _by_unit, unit=unit, max_steps=max_steps, model=model, order=order, method=method
    )
    for _ in q.shape[:-2]:
        read = jax.vmap(read)
    return read(fast, q, k, v, rate, steps, norm)


def _by_unit(fast, q, k, v, rate, steps, norm, *, unit, max_steps, model, order, method):
    """Units in turn, each brought by `method` from the weights it finds to those it leaves."""

    def arrive(fast, k, v, rate, steps):
        if method == "primal":
            return adapt(
                fast, None, steps, rule=SGD(jnp.ones(())), max_steps=max_steps,
                gradient=lambda fast, _: weighted_gradient(
                    fast, k, v, rate / unit, model=model, norm=norm
                ),
            )  # fmt: skip
        if method == "limit":
            there = limit.limit(fast, k, v)
        else:
            there = limit.conjugate_gradient(fast, k, v, max_steps=max_steps, tolerance=1e-6).fast
        return jax.tree.map(lambda new, old: jnp.where(steps > 0, new, old), there, fast)

    def read(fast, x):
        q, k, v, rate, steps = x
        moved = arrive(fast, k, v, rate, steps)
        out = FAST_WEIGHTS[model].apply(moved if order == "adapt_first" else fast, q)
        return moved, answer(out, q, norm)

    units = [x.reshape(-1, unit, *x.shape[1:]) for x in (q, k, v, rate)]
    fast, out = jax.lax.scan(read, fast, (*units, steps))
    return out.reshape(q.shape), fast


def _choose(method: Method, model, norm, unit, order, max_steps) -> Method:
    if method not in ("auto", *METHODS):
        raise InputError(f"unknown method {method!r}: expected auto, {', '.join(METHODS)}")
    if method != "auto":
        return method
    if unit == 1 and model == "linear" and norm is None:
        return "chunkwise"
    if unit == 1 and (model == "linear" or max_steps <= MOST_FACTORS):
        return "factored"
    return "dual" if unit > 1 and order == "adapt_first" and max_steps <= 1 else "primal"


def _check(fast, q, k, v, rate, position, model, norm, unit, order, max_steps, method) -> None:
    if model not in FAST_WEIGHTS:
        raise InputError(f"unknown fast weights {model!r}: expected {', '.join(FAST_WEIGHTS)}")
    if not q.shape == k.shape == v.shape:
        raise InputError(
            f"q {q.shape}, k {k.shape} and v {v.shape} differ: expected [*lead, T, d] for all three"
        )
    if rate.shape != q.shape[:-1]:
        raise InputError(f"rate has shape {rate.shape}: expected one a token, {q.shape[:-1]}")
    names = {"linear": [{"w"}, {"w", "b"}], "mlp": [{"w1", "b1", "w2", "b2"}]}[model]
    if set(fast) not in names:
        raise InputError(
            f"fast weights {', '.join(sorted(fast))} are not {model}: expected "
            f"{' or '.join(', '.join(sorted(each)) for each in names)}"
        )
    within = order == "adapt_first" and unit > 1
    if position is not None and (not within or position.shape != (unit,)):
        raise InputError(
            f"position has shape {position.shape}: expected ({unit},), for adapt_first on units of "
            "several tokens only"
        )
    linear = model == "linear" and norm is None
    kind = f"{model} fast weights {'without a' if norm is None else 'with the'} norm"
    if method not in ("primal", "factored", "dual") and not linear:
        raise InputError(
            f"{method} needs linear fast weights without a norm, not {kind}: use primal"
        )
    if method in ("factored", "closed_form", "chunkwise") and unit > 1:
        raise InputError(
            f"{method} needs units of one token, not {unit}: use dual for one step, else primal"
        )
    if method == "dual" and (max_steps > 1 or order == "predict_first" or unit == 1):
        raise InputError(
            "dual is one step answered token by token within a unit of several tokens, not "
            f"{max_steps} steps, {order}, units of {unit}: use primal"
        )
    if within and method not in ("primal", "dual") or within and max_steps > 1:
        raise InputError(
            f"adapt_first with {max_steps} steps of {method} on units of {unit} tokens would "
            "answer a token from itself and later ones: use predict_first"
        )


def _check_stable(k, rate, position, bias, unit, order) -> None:
    """Refuse rates that a linear iteration diverges at, where the values are known."""
    if any(isinstance(x, jax.core.Tracer) for x in (k, rate, position)):
        return
    with jax.ensure_compile_time_eval():
        units = k.reshape(-1, unit, k.shape[-1])
        keys = jnp.pad(units, ((0, 0), (0, 0), (0, int(bias))), constant_values=1)
        share = position[-1] if order == "adapt_first" else 1 / unit
        scaled_keys = keys * (rate.reshape(-1, unit) * share)[..., None]
        # A step of rates w_j contracts if the eigenvalues of sum_j w_j k_j' k_j are below 2; of one
        # token, the only one that is not 0 is w |k|^2.
        if unit == 1:
            largest = jnp.max(jnp.sum(keys * scaled_keys, axis=-1))
        else:
            largest = jnp.max(jnp.linalg.eigvalsh(jnp.swapaxes(keys, -1, -2) @ scaled_keys))
    if float(jnp.min(rate)) < 0:
        raise InputError(f"an inner rate of {float(jnp.min(rate)):g} climbs: expected 0 or more")
    if float(largest) > 2:
        top = float(jnp.max(rate))
        raise InputError(
            f"an inner rate of {top:g} makes the iteration diverge: expected at most "
            f"{top * 2 / float(largest):.4g}, the largest stable rate here"
        )
