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
    gelu_and_slope,
    through_written,
    written,
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
    numbers = jnp.arange(max(max_steps, 1)).reshape(-1, *(1 for _ in steps.shape))
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
        moved = written(fast, _KINDS[model].factors(token, steps), -1)
        told = _answered(model, moved if order == "adapt_first" else fast, token.q, norm)
        return moved, (told, steps)

    fast, (out, steps) = jax.lax.scan(read, fast, text)
    return (fast, out), (fast, text, norm, steps)


def _backward(model, order, known, pulled):
    last, text, norm, steps = known

    def back(carry, x):
        moved, to_moved, to_norm = carry
        token, steps, to_out = x
        fast = written(moved, _KINDS[model].factors(token, steps), 1)
        asked = moved if order == "adapt_first" else fast
        _, answering = jax.vjp(partial(_answered, model), asked, token.q, norm)
        to_asked, to_q, norm_of_q = answering(to_out)
        if order == "adapt_first":
            to_moved = jax.tree.map(jnp.add, to_moved, to_asked)
        to_fast, to_token, norm_of_k = _KINDS[model].pull(fast, token, norm, steps, to_moved)
        if order != "adapt_first":
            to_fast = jax.tree.map(jnp.add, to_fast, to_asked)
        to_norm = jax.tree.map(lambda *x: sum(x), to_norm, norm_of_q, norm_of_k)
        return (fast, to_fast, to_norm), to_token._replace(q=to_q)

    to_last, to_out = pulled
    start = (last, to_last, jax.tree.map(jnp.zeros_like, norm))
    (_, to_fast, to_norm), to_text = jax.lax.scan(back, start, (text, steps, to_out), reverse=True)
    return to_fast, to_text, to_norm


_read.defvjp(_forward, _backward)


def _answered(model: str, fast: Fast, q: Float[Array, "*lead 1 d"], norm: Norm | None):
    return answer(FAST_WEIGHTS[model].apply(fast, q), q, norm)


def _dot(x: Float[Array, "*n d"], y: Float[Array, "*n d"]) -> Float[Array, "*n 1"]:
    return jnp.sum(x * y, axis=-1, keepdims=True)


class _LinearSteps(NamedTuple):
    """What linear weights said of the key, and the sum of the steps' gradients there."""

    out: Float[Array, "*lead 1 d"]
    total: Float[Array, "*lead 1 d"]


def _total(bias: bool, out: Float[Array, "*lead 1 d"], token: Token, norm: Norm | None):
    _, k, v, rates = token
    square = _dot(k, k) + bias

    def step(total, rate):
        return total + rate * output_gradient(out - square * total, k, v, norm), None

    return jax.lax.scan(step, jnp.zeros_like(v), rates)[0]


def _linear_descend(fast: Fast, token: Token, norm) -> _LinearSteps:
    out = FAST_WEIGHTS["linear"].apply(fast, token.k)
    return _LinearSteps(out, _total("b" in fast, out, token, norm))


def _linear_factors(token: Token, steps: _LinearSteps):
    return {"w": (token.k, steps.total), "b": (None, steps.total)}


def _linear_pull(fast: Fast, token: Token, norm, steps: _LinearSteps, to_moved: Fast):
    """From `out` as it was: weights that were taken back are a little off, and a norm tells."""
    of_k, to_total = through_written(token.k, steps.total, to_moved["w"], to_moved.get("b"))
    _, stepping = jax.vjp(partial(_total, "b" in fast), steps.out, token, norm)
    to_out, to_token, to_norm = stepping(to_total)
    to_k = to_token.k + to_out @ fast["w"].mT + of_k
    through = {"w": (token.k, to_out), "b": (None, to_out)}
    return written(to_moved, through, 1), to_token._replace(k=to_k), to_norm


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


def _mlp_pull(fast: Fast, token: Token, norm, steps: _MLPSteps, to_moved: Fast):
    """By hand: autodiff would keep and sum a pair of weights a step, where factors are enough."""
    _, k, v, rates = token
    z, total, inner, errors, *each = steps
    w1, w2, square, count = fast["w1"], fast["w2"], _dot(k, k) + 1, rates.shape[0]

    def step(carry, x):
        to_total, to_inner, to_errors, to_z, to_square, to_rest = carry
        i, rate, before, out, pull = x

        def earlier(x):  # *lead 1 K
            return jnp.where(jax.lax.broadcasted_iota(i.dtype, x.shape, x.ndim - 1) < i, x, 0)

        row = partial(jax.lax.dynamic_slice_in_dim, start_index=i, slice_size=1, axis=k.ndim - 2)
        (x2, slope), to_input = jax.vjp(gelu_and_slope, z - square * before)
        g2 = row(errors)

        to_pull = to_total * slope
        shared = earlier(to_pull @ inner.mT)
        to_g2 = row(to_errors) + to_pull @ w2 - shared @ errors
        to_inner = to_inner - earlier(g2 @ errors.mT).mT * to_pull
        to_errors = to_errors - shared.mT * g2

        _, through = jax.vjp(lambda r, *rest: r * output_gradient(*rest), rate, out, k, v, norm)
        to_rate, to_out, *rest = through(to_g2)
        shared = earlier(to_out @ errors.mT)
        to_x2 = row(to_inner) + to_out @ w2.mT - shared @ inner
        to_inner = to_inner - shared.mT * x2
        to_errors = to_errors - earlier(x2 @ inner.mT + 1).mT * to_out

        (moved,) = to_input((to_x2, to_total * pull))
        carry = (
            to_total - square * moved, to_inner, to_errors, to_z + moved,
            to_square - _dot(moved, before), jax.tree.map(jnp.add, to_rest, rest),
        )  # fmt: skip
        return carry, (to_pull, to_out, to_rate)

    of_k, to_total = through_written(k, total, to_moved["w1"], to_moved["b1"])
    to_inner, to_errors = through_written(inner, errors, to_moved["w2"], to_moved["b2"])
    nothing = jax.tree.map(jnp.zeros_like, (z, square, [k, v, norm]))
    carry, (to_pull, to_out, to_rates) = jax.lax.scan(
        step, (to_total, to_inner, to_errors, *nothing), (jnp.arange(count), rates, *each),
        reverse=True,
    )  # fmt: skip
    to_z, to_square, (to_k, to_v, to_norm) = carry[3:]
    to_k += to_z @ w1.mT + 2 * to_square * k + of_k
    to_pull, to_out = (jnp.moveaxis(x[..., 0, :], 0, -2) for x in (to_pull, to_out))
    rows = jnp.concatenate([inner, to_pull], axis=-2), jnp.concatenate([to_out, errors], axis=-2)
    through = {"w1": (k, to_z), "b1": (None, to_z), "w2": rows, "b2": (None, to_out)}
    return written(to_moved, through, 1), Token(jnp.zeros_like(k), to_k, to_v, to_rates), to_norm


class _Kind(NamedTuple):
    """What a fast-weight model's steps on a token are, what they write, and their derivatives."""

    descend: Callable[[Fast, Token, Norm | None], Any]
    factors: Callable[[Token, Any], dict[str, tuple]]
    pull: Callable[[Fast, Token, Norm | None, Any, Fast], tuple[Fast, Token, Norm | None]]


_KINDS = {
    "linear": _Kind(_linear_descend, _linear_factors, _linear_pull),
    "mlp": _Kind(_mlp_descend, _mlp_factors, _mlp_pull),
}
