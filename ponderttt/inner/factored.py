"""K steps on one token while the weights stand still: what they write is a product of few factors.

All steps on a token see one key, so the first weights move by `k^T sum_i g_i`, of rank one, and an
mlp's second ones by `X^T G`, of rank K. A step needs the rows of these factors, not the weights:
they are written once a token, whatever K is. The outer backward goes through the text in reverse,
takes back what each token wrote, and so keeps factors in place of weights; what a step was taken at
is kept with them.
Axes: T tokens, d head width, h hidden; `*lead` are heads and documents.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ponderttt.inner.descent import Order
from ponderttt.inner.fast_weights import (
    FAST_WEIGHTS,
    Fast,
    add_outer,
    add_outer_vjp,
    gelu_and_slope,
)
from ponderttt.inner.objectives import Norm, answer, output_gradient
from ponderttt.inner.pieces import cut, join


class Token(NamedTuple):
    """One of a text, or all of them along an axis in front."""

    q: Float[Array, "*lead 1 d"]
    k: Float[Array, "*lead 1 d"]
    v: Float[Array, "*lead 1 d"]
    rates: Float[Array, "K *lead 1 1"]
    """Of each step; 0 for a step that is not taken."""


def factored(
    fast: Fast,
    q: Float[Array, "*lead T d"],
    k: Float[Array, "*lead T d"],
    v: Float[Array, "*lead T d"],
    rate: Float[Array, "*lead T"],
    steps: Int[Array, "*lead T"],
    *,
    max_steps: int,
    model: str,
    norm: Norm | None,
    order: Order = "adapt_first",
) -> tuple[Float[Array, "*lead T d"], Fast]:
    """Token by token, up to `max_steps` steps each: answers to `q`, and the last fast weights."""
    taken = (steps > 0)[..., None]
    k, v = (jnp.where(taken, x, 0) for x in (k, v))  # where nothing is learned: 0 * nan is nan
    numbers = jnp.arange(max(max_steps, 1), dtype=steps.dtype).reshape(
        -1, *(1 for _ in steps.shape)
    )
    rates = jnp.moveaxis(jnp.where(numbers < steps[None], rate[None], 0), -1, 0)[..., None, None]
    text = Token(cut(q, 1), cut(k, 1), cut(v, 1), rates)
    fast, out = _read(model, order, fast, text, norm)
    return join(out, q.shape[-2]), fast


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _read(model: str, order: Order, fast: Fast, text: Token, norm: Norm | None):
    return _forward(model, order, fast, text, norm)[0]


def _forward(model, order, fast, text, norm):
    def read(fast, token):
        steps = _KINDS[model].descend(fast, token, norm)
        moved = add_outer(fast, _KINDS[model].factors(token, steps), -1)
        out = _answered(model, moved if order == "adapt_first" else fast, token.q, norm)
        return moved, (out, steps)

    fast, (out, steps) = jax.lax.scan(read, fast, text)
    return (fast, out), (fast, text, norm, steps)


def _backward(model, order, known, cotangents):
    last, text, norm, steps = known

    def back(carry, x):
        moved, ct_moved, ct_norm = carry
        token, steps, ct_out = x
        fast = add_outer(moved, _KINDS[model].factors(token, steps), 1)
        asked = moved if order == "adapt_first" else fast
        _, answering = jax.vjp(partial(_answered, model), asked, token.q, norm)
        ct_asked, ct_q, norm_of_q = answering(ct_out)
        if order == "adapt_first":
            ct_moved = jax.tree.map(jnp.add, ct_moved, ct_asked)
        ct_fast, ct_token, norm_of_k = _KINDS[model].pull(fast, token, norm, steps, ct_moved)
        if order != "adapt_first":
            ct_fast = jax.tree.map(jnp.add, ct_fast, ct_asked)
        ct_norm = jax.tree.map(lambda *x: sum(x), ct_norm, norm_of_q, norm_of_k)
        return (fast, ct_fast, ct_norm), ct_token._replace(q=ct_q)

    ct_last, ct_out = cotangents
    start = (last, ct_last, jax.tree.map(jnp.zeros_like, norm))
    (_, ct_fast, ct_norm), ct_text = jax.lax.scan(back, start, (text, steps, ct_out), reverse=True)
    return ct_fast, ct_text, ct_norm


_read.defvjp(_forward, _backward)


def _answered(model: str, fast: Fast, q: Float[Array, "*lead 1 d"], norm: Norm | None):
    return answer(FAST_WEIGHTS[model].apply(fast, q), q, norm)


def _dot(x: Float[Array, "*lead d"], y: Float[Array, "*lead d"]) -> Float[Array, "*lead 1"]:
    return jnp.sum(x * y, axis=-1, keepdims=True)


class _LinearSteps(NamedTuple):
    """What linear weights said of the key, and the sum of the steps' gradients there."""

    out: Float[Array, "*lead 1 d"]
    total: Float[Array, "*lead 1 d"]


def _total(bias: bool, out: Float[Array, "*lead 1 d"], token: Token, norm: Norm | None):
    _, k, v, rates = token
    square = _dot(k, k) + int(bias)

    def step(total, rate):
        return total + rate * output_gradient(out - square * total, k, v, norm), None

    return jax.lax.scan(step, jnp.zeros_like(v), rates)[0]


def _linear_descend(fast: Fast, token: Token, norm) -> _LinearSteps:
    out = FAST_WEIGHTS["linear"].apply(fast, token.k)
    return _LinearSteps(out, _total("b" in fast, out, token, norm))


def _linear_factors(token: Token, steps: _LinearSteps):
    return {"w": (token.k, steps.total), "b": (None, steps.total)}


def _linear_bwd(fast: Fast, token: Token, norm, steps: _LinearSteps, ct_moved: Fast):
    """From `out` as it was: weights that were taken back are a little off, and a norm tells."""
    of_k, ct_total = add_outer_vjp(token.k, steps.total, ct_moved["w"], ct_moved.get("b"))
    _, stepping = jax.vjp(partial(_total, "b" in fast), steps.out, token, norm)
    ct_out, ct_token, ct_norm = stepping(ct_total)
    ct_k = ct_token.k + ct_out @ fast["w"].mT + of_k
    through = {"w": (token.k, ct_out), "b": (None, ct_out)}
    return add_outer(ct_moved, through, 1), ct_token._replace(k=ct_k), ct_norm


class _MLPSteps(NamedTuple):
    """The steps of an mlp on one token: `total`, `inner` and `errors` are what is written.

    `before` is the total that each step found, `out` what the mlp said of the key there, `pull`
    what came back through the second weights.
    """

    z: Float[Array, "*lead 1 h"]
    total: Float[Array, "*lead 1 h"]
    inner: Float[Array, "*lead K h"]
    errors: Float[Array, "*lead K d"]
    before: Float[Array, "K *lead 1 h"]
    out: Float[Array, "K *lead 1 d"]
    pull: Float[Array, "K *lead 1 h"]


def _mlp_descend(fast: Fast, token: Token, norm) -> _MLPSteps:
    _, k, v, rates = token
    z, square = k @ fast["w1"] + fast["b1"][..., None, :], _dot(k, k) + 1
    w2, b2, count = fast["w2"], fast["b2"][..., None, :], rates.shape[0]

    def step(carry, x):
        total, inner, errors = carry
        i, rate = x
        x2, slope = gelu_and_slope(z - square * total)
        out = x2 @ w2 + b2 - (x2 @ inner.mT + 1) @ errors
        g2 = rate * output_gradient(out, k, v, norm)
        pull = g2 @ w2.mT - (g2 @ errors.mT) @ inner
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=i, axis=k.ndim - 2)
        return (total + pull * slope, put(inner, x2), put(errors, g2)), (total, out, pull)

    start = (jnp.zeros_like(z), *(jnp.repeat(jnp.zeros_like(x), count, axis=-2) for x in (z, v)))
    (total, inner, errors), each = jax.lax.scan(step, start, (jnp.arange(count), rates))
    return _MLPSteps(z, total, inner, errors, *each)


def _mlp_factors(token: Token, steps: _MLPSteps):
    return {
        "w1": (token.k, steps.total), "b1": (None, steps.total),
        "w2": (steps.inner, steps.errors), "b2": (None, steps.errors),
    }  # fmt: skip


def _mlp_bwd(fast: Fast, token: Token, norm, steps: _MLPSteps, ct_moved: Fast):
    """By hand: autodiff would keep and sum a pair of weights a step, where factors are enough."""
    _, k, v, rates = token
    z, total, inner, errors, *each = steps
    w1, w2, square, count = fast["w1"], fast["w2"], _dot(k, k) + 1, rates.shape[0]

    def step(carry, x):
        ct_total, ct_inner, ct_errors, ct_z, ct_square, ct_rest = carry
        i, rate, before, out, pull = x

        def earlier(x):  # *lead 1 K
            return jnp.where(jax.lax.broadcasted_iota(i.dtype, x.shape, x.ndim - 1) < i, x, 0)

        row = partial(jax.lax.dynamic_slice_in_dim, start_index=i, slice_size=1, axis=k.ndim - 2)
        (x2, slope), ct_input = jax.vjp(gelu_and_slope, z - square * before)
        g2 = row(errors)

        ct_pull = ct_total * slope
        shared = earlier(ct_pull @ inner.mT)
        ct_g2 = row(ct_errors) + ct_pull @ w2 - shared @ errors
        ct_inner = ct_inner - earlier(g2 @ errors.mT).mT * ct_pull
        ct_errors = ct_errors - shared.mT * g2

        _, through = jax.vjp(lambda r, *rest: r * output_gradient(*rest), rate, out, k, v, norm)
        ct_rate, ct_out, *rest = through(ct_g2)
        shared = earlier(ct_out @ errors.mT)
        ct_x2 = row(ct_inner) + ct_out @ w2.mT - shared @ inner
        ct_inner = ct_inner - shared.mT * x2
        ct_errors = ct_errors - earlier(x2 @ inner.mT + 1).mT * ct_out

        (moved,) = ct_input((ct_x2, ct_total * pull))
        carry = (
            ct_total - square * moved, ct_inner, ct_errors, ct_z + moved,
            ct_square - _dot(moved, before), jax.tree.map(jnp.add, ct_rest, rest),
        )  # fmt: skip
        return carry, (ct_pull, ct_out, ct_rate)

    of_k, ct_total = add_outer_vjp(k, total, ct_moved["w1"], ct_moved["b1"])
    ct_inner, ct_errors = add_outer_vjp(inner, errors, ct_moved["w2"], ct_moved["b2"])
    nothing = jax.tree.map(jnp.zeros_like, (z, square, [k, v, norm]))
    carry, (ct_pull, ct_out, ct_rates) = jax.lax.scan(
        step, (ct_total, ct_inner, ct_errors, *nothing), (jnp.arange(count), rates, *each),
        reverse=True,
    )  # fmt: skip
    ct_z, ct_square, (ct_k, ct_v, ct_norm) = carry[3:]
    ct_k += ct_z @ w1.mT + 2 * ct_square * k + of_k
    ct_pull, ct_out = (jnp.moveaxis(x[..., 0, :], 0, -2) for x in (ct_pull, ct_out))
    rows = jnp.concatenate([inner, ct_pull], axis=-2), jnp.concatenate([ct_out, errors], axis=-2)
    through = {"w1": (k, ct_z), "b1": (None, ct_z), "w2": rows, "b2": (None, ct_out)}
    return add_outer(ct_moved, through, 1), Token(jnp.zeros_like(k), ct_k, ct_v, ct_rates), ct_norm


class _Kind(NamedTuple):
    """What a fast-weight model's steps on a token are, what they write, and their derivatives."""

    descend: Callable[[Fast, Token, Norm | None], Any]
    factors: Callable[[Token, Any], dict[str, tuple]]
    pull: Callable[[Fast, Token, Norm | None, Any, Fast], tuple[Fast, Token, Norm | None]]


_KINDS = {
    "linear": _Kind(_linear_descend, _linear_factors, _linear_bwd),
    "mlp": _Kind(_mlp_descend, _mlp_factors, _mlp_bwd),
}
