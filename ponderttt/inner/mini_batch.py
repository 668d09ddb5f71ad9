"""One gradient step a mini-batch, answered token by token: TTT-Linear and TTT-MLP.

The gradients of a mini-batch are all taken at the weights `W` it finds, and token i is answered
with `W_i = W - sum_{j<=i} eta[i, j] dl_j/dW`: causal, because of the lower triangle (Sun et al.,
2407.04620, section 2.5). `dual` does a mini-batch in matrix products and never forms `W_i`;
`primal` goes token by token, and may stop and go on anywhere: both give the same.
Axes: T tokens, b tokens a mini-batch, d head width. One head; vmap over heads and documents.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ponderttt.inner.fast_weights import FAST_WEIGHTS, Fast, gelu_and_slope
from ponderttt.inner.objectives import Norm, answer, output_gradient, weighted_gradient


class Rates(NamedTuple):
    """`eta[i, j] = position[i] * token[j]`: where the answer is, and whose gradient it is."""

    position: Float[Array, "b"]
    token: Float[Array, "T"]


class Reading(NamedTuple):
    """Where a head is within its text: all that is needed to go on."""

    fast: Fast
    """The weights that the current mini-batch found."""
    pull: Fast
    """`sum_j token[j] dl_j/dW` over the tokens of the mini-batch that have been read."""
    done: Int[Array, ""]
    """How many those are."""


def begin(fast: Fast) -> Reading:
    """At the start of a mini-batch."""
    return Reading(fast, jax.tree.map(jnp.zeros_like, fast), jnp.zeros((), jnp.int32))


def primal_token(
    reading: Reading, q: Float[Array, "d"], k: Float[Array, "d"], v: Float[Array, "d"],
    token_rate: Float[Array, ""], position: Float[Array, "b"],
    *, model: str, norm: Norm | None,
) -> tuple[Reading, Float[Array, "d"]]:  # fmt: skip
    """Read one token: what decoding does."""
    size = position.shape[0]
    pull = jax.tree.map(
        jnp.add,
        reading.pull,
        weighted_gradient(reading.fast, k[None], v[None], token_rate[None], model=model, norm=norm),
    )
    here = position[reading.done]
    moved = jax.tree.map(lambda w, g: w - here * g, reading.fast, pull)
    out = answer(FAST_WEIGHTS[model].apply(moved, q[None]), q[None], norm)[0]
    whole = reading.done + 1 == size
    fast, pull = (
        jax.tree.map(lambda new, old: jnp.where(whole, new, old), news, olds)
        for news, olds in ((moved, reading.fast), (begin(moved).pull, pull))
    )
    return Reading(fast, pull, (reading.done + 1) % size), out


def primal(
    reading: Reading,
    q: Float[Array, "T d"],
    k: Float[Array, "T d"],
    v: Float[Array, "T d"],
    rates: Rates,
    *,
    model: str,
    norm: Norm | None,
) -> tuple[Float[Array, "T d"], Reading]:
    """Token by token, from anywhere to anywhere."""

    def read(reading, x):
        q, k, v, token_rate = x
        return primal_token(reading, q, k, v, token_rate, rates.position, model=model, norm=norm)

    reading, out = jax.lax.scan(read, reading, (q, k, v, rates.token))
    return out, reading


def dual(
    fast: Fast,
    q: Float[Array, "T d"],
    k: Float[Array, "T d"],
    v: Float[Array, "T d"],
    rates: Rates,
    *,
    model: str,
    norm: Norm | None,
) -> tuple[Float[Array, "T d"], Fast]:
    """A mini-batch at a time; T is a multiple of the mini-batch."""
    b, d = rates.position.shape[0], q.shape[-1]
    q, k, v = (x.reshape(-1, b, d) for x in (q, k, v))
    token = rates.token.reshape(-1, b)
    eta = jnp.tril(jnp.ones((b, b), q.dtype)) * rates.position[:, None]  # b b, times token[j]
    eta = eta[None] * token[:, None]
    reach = eta * (jnp.einsum("Mid,Mjd->Mij", q, k) + 1)  # 1: the bias is a key of its own
    step = _dual_linear if model == "linear" else _dual_mlp

    def read(fast, x):
        return step(fast, x, norm)

    fast, out = jax.lax.scan(read, fast, (q, k, v, eta, reach))
    return out.reshape(-1, d), fast


def _dual_linear(fast, x, norm):
    q, k, v, eta, reach = x
    b = q.shape[0]
    z = jnp.concatenate([k, q]) @ fast["w"] + fast["b"][None]
    g = output_gradient(z[:b], k, v, norm)
    out = answer(z[b:] - reach @ g, q, norm)
    last = eta[-1][:, None] * g
    return {"w": fast["w"] - k.T @ last, "b": fast["b"] - jnp.sum(last, axis=0)}, out


def _dual_mlp(fast, x, norm):
    q, k, v, eta, reach = x
    b = q.shape[0]
    z1 = jnp.concatenate([k, q]) @ fast["w1"] + fast["b1"][None]
    x2, slope = gelu_and_slope(z1[:b])
    g2 = output_gradient(x2 @ fast["w2"] + fast["b2"][None], k, v, norm)
    g1 = g2 @ fast["w2"].T * slope
    y2 = jax.nn.gelu(z1[b:] - reach @ g1, approximate=True)
    reach2 = eta * (y2 @ x2.T + 1)
    out = answer(y2 @ fast["w2"] + fast["b2"][None] - reach2 @ g2, q, norm)
    last = eta[-1][:, None]
    moved = {
        "w1": fast["w1"] - k.T @ (last * g1),
        "b1": fast["b1"] - jnp.sum(last * g1, axis=0),
        "w2": fast["w2"] - x2.T @ (last * g2),
        "b2": fast["b2"] - jnp.sum(last * g2, axis=0),
    }
    return moved, out
