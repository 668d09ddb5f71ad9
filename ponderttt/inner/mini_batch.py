"""One gradient step a mini-batch, answered token by token: TTT-Linear and TTT-MLP.

The gradients of a mini-batch are all taken at the weights `W` it finds, and token i is answered
with `W_i = W - sum_{j<=i} eta[i, j] dl_j/dW`: causal, because of the lower triangle (Sun et al.,
2407.04620, section 2.5). `dual` does a mini-batch in matrix products and never forms `W_i`;
`primal` goes token by token, and may stop and go on anywhere: both give the same.
Axes: T tokens, b tokens a mini-batch, d head width; `*lead` are heads and documents.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ponderttt.inner.factored import written
from ponderttt.inner.fast_weights import FAST_WEIGHTS, Fast, apply_linear, gelu_and_slope
from ponderttt.inner.objectives import Norm, answer, output_gradient, weighted_gradient
from ponderttt.inner.pieces import cut, join

BLOCK = 8
"""So many mini-batches share one copy of their weights for the outer backward."""


class Rates(NamedTuple):
    """`eta[i, j] = position[i] * token[j]`: where the answer is, and whose gradient it is."""

    position: Float[Array, "b"]
    token: Float[Array, "*lead T"]


class Reading(NamedTuple):
    """Where a reader is within its text: all that is needed to go on."""

    fast: Fast
    """The weights that the current mini-batch found."""
    pull: Fast
    """`sum_j token[j] dl_j/dW` over the tokens of the mini-batch that have been read."""
    done: Int[Array, ""]
    """How many those are."""


def begin(fast: Fast) -> Reading:
    """At the start of a mini-batch."""
    return Reading(fast, jax.tree.map(jnp.zeros_like, fast), jnp.zeros((), jnp.int32))


def primal(
    reading: Reading,
    q: Float[Array, "*lead T d"],
    k: Float[Array, "*lead T d"],
    v: Float[Array, "*lead T d"],
    rates: Rates,
    *,
    model: str,
    norm: Norm | None,
) -> tuple[Float[Array, "*lead T d"], Reading]:
    """Token by token, from anywhere to anywhere: what decoding does."""
    size = rates.position.shape[0]

    def read(reading, token):
        q, k, v, rate = token  # [*lead 1 d], rate [*lead 1]
        pulled = weighted_gradient(reading.fast, k, v, rate, model=model, norm=norm)
        pull = jax.tree.map(jnp.add, reading.pull, pulled)
        here = rates.position[reading.done]
        moved = jax.tree.map(lambda w, g: w - here * g, reading.fast, pull)
        out = answer(FAST_WEIGHTS[model].apply(moved, q), q, norm)
        done = reading.done + 1
        following = begin(moved)._replace(done=done % size)
        within = Reading(reading.fast, pull, done)
        return jax.tree.map(lambda a, b: jnp.where(done == size, a, b), following, within), out

    q, k, v, token = (cut(x, 1) for x in (q, k, v, rates.token[..., None]))
    reading, out = jax.lax.scan(read, reading, (q, k, v, token[..., 0]))
    return join(out, q.shape[0]), reading


def dual(
    fast: Fast,
    q: Float[Array, "*lead T d"],
    k: Float[Array, "*lead T d"],
    v: Float[Array, "*lead T d"],
    rates: Rates,
    *,
    model: str,
    norm: Norm | None,
) -> tuple[Float[Array, "*lead T d"], Fast]:
    """A mini-batch at a time; T is a multiple of the mini-batch."""
    b, length = rates.position.shape[0], q.shape[-2]
    position = rates.position.reshape((1,) * (q.ndim - 1) + (b, 1))
    step = _dual_linear if model == "linear" else _dual_mlp
    bias = model != "linear" or "b" in fast

    @jax.checkpoint  # the outer backward keeps the weights that each block found, no more
    def block(fast, x):
        q, k, v, token = (cut(y, b) for y in x)
        eta = jnp.tril(position * jnp.swapaxes(token, -1, -2))  # n *lead b b
        # A bias is one more key, equal to 1.
        reach = eta * (q @ jnp.swapaxes(k, -1, -2) + bias)
        fast, out = jax.lax.scan(lambda fast, x: step(fast, x, norm), fast, (q, k, v, eta, reach))
        return fast, join(out, q.shape[0] * b)

    size = b * min(BLOCK, length // b)
    texts = tuple(cut(x, size) for x in (q, k, v, rates.token[..., None]))
    fast, out = jax.lax.scan(block, fast, texts)
    return join(out, length), fast


def _dual_linear(fast, x, norm):
    q, k, v, eta, reach = x
    b = q.shape[-2]
    z = apply_linear(fast, jnp.concatenate([k, q], axis=-2))
    g = output_gradient(z[..., :b, :], k, v, norm)
    out = answer(z[..., b:, :] - reach @ g, q, norm)
    pairs = {"w": (k, g), "b": (None, g)}
    return _moved(fast, eta, {name: pairs[name] for name in fast}), out


def _dual_mlp(fast, x, norm):
    q, k, v, eta, reach = x
    b = q.shape[-2]
    b1, b2 = fast["b1"][..., None, :], fast["b2"][..., None, :]
    z1 = jnp.concatenate([k, q], axis=-2) @ fast["w1"] + b1
    x2, slope = gelu_and_slope(z1[..., :b, :])
    g2 = output_gradient(x2 @ fast["w2"] + b2, k, v, norm)
    g1 = g2 @ jnp.swapaxes(fast["w2"], -1, -2) * slope
    y2 = jax.nn.gelu(z1[..., b:, :] - reach @ g1, approximate=True)
    reach2 = eta * (y2 @ jnp.swapaxes(x2, -1, -2) + 1)
    out = answer(y2 @ fast["w2"] + b2 - reach2 @ g2, q, norm)
    pairs = {"w1": (k, g1), "b1": (None, g1), "w2": (x2, g2), "b2": (None, g2)}
    return _moved(fast, eta, pairs), out


def _moved(fast, eta, pairs):
    """The step of the whole mini-batch: gradients are inputs (1 for a bias) times `pairs`' g."""
    last = eta[..., -1, :, None]  # *lead b 1
    return written(fast, {name: (x, last * g) for name, (x, g) in pairs.items()}, -1)
