"""K steps on one token at no price: linear fast weights without a norm, in closed form.

On `1/2 ||k W + b - v||^2`, K gradient steps of size `rate` on one token are one step of size
`beta_K`; a sequence of such steps is a delta rule, and so has a form that is parallel in chunks.
Axes: T tokens, C tokens a chunk, M = T / C chunks, d head width. One head; vmap over the rest.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ponderttt.inner.fast_weights import Fast, apply_linear

Order = Literal["predict_first", "adapt_first"]


def effective_rate(
    rate: Float[Array, "T"], square: Float[Array, "T"], steps: Int[Array, "T"], max_steps: int
) -> Float[Array, "T"]:
    """`beta_K = rate * sum_{i<K} (1 - rate * square)^i`: the one step that K steps amount to.

    `square` is `||k||^2` (plus 1 with a bias). By doubling, so that there is no cancellation where
    `rate * square` is small, and K costs log K.
    """
    shrink = 1 - rate * square
    total, power = jnp.zeros_like(shrink), jnp.ones_like(shrink)  # the sum, and shrink^n
    for bit in reversed(range(max_steps.bit_length())):
        total, power = total * (1 + power), power * power
        odd = (steps >> bit) & 1 == 1
        total, power = (
            jnp.where(odd, total * shrink + 1, total),
            jnp.where(odd, power * shrink, power),
        )
    return rate * total


def _squares(fast: Fast, k: Float[Array, "*T d"]) -> Float[Array, "*T"]:
    return jnp.sum(k * k, axis=-1) + ("b" in fast)


def closed_form(
    fast: Fast,
    q: Float[Array, "T d"],
    k: Float[Array, "T d"],
    v: Float[Array, "T d"],
    rate: Float[Array, "T"],
    steps: Int[Array, "T"],
    *,
    max_steps: int,
    order: Order = "adapt_first",
) -> tuple[Float[Array, "T d"], Fast]:
    """Token by token, one rank-1 step each: the answers to `q`, and the last fast weights."""

    def read(fast, token):
        q, k, v, beta = token
        error = beta * (v - apply_linear(fast, k[None])[0])
        moved = {"w": fast["w"] + k[:, None] * error[None]}
        if "b" in fast:
            moved["b"] = fast["b"] + error
        return moved, apply_linear(moved if order == "adapt_first" else fast, q[None])[0]

    beta = effective_rate(rate, _squares(fast, k), steps, max_steps)
    fast, out = jax.lax.scan(read, fast, (q, k, v, beta))
    return out, fast


def chunkwise(
    fast: Fast,
    q: Float[Array, "T d"],
    k: Float[Array, "T d"],
    v: Float[Array, "T d"],
    rate: Float[Array, "T"],
    steps: Int[Array, "T"],
    *,
    max_steps: int,
    chunk: int = 16,
    order: Order = "adapt_first",
) -> tuple[Float[Array, "T d"], Fast]:
    """`closed_form` with T / `chunk` sequential steps, whatever K is at each token.

    What a chunk's tokens write, `u_t = beta_t (v_t - k_t W - sum_{s<t} (k_t . k_s) u_s)`, solves
    one unit lower-triangular system, whose inverse does not depend on W: the WY (UT) form of the
    delta rule (Yang et al., 2406.06484) with `beta_{K_t}` for its rate. A bias is one more
    coordinate of every key and query, equal to 1.
    """
    length, d = q.shape
    bias = "b" in fast
    pad = -length % chunk
    beta = effective_rate(rate, _squares(fast, k), steps, max_steps)
    q, k, v = (jnp.pad(x, ((0, pad), (0, 0))).reshape(-1, chunk, d) for x in (q, k, v))
    beta = jnp.pad(beta, (0, pad)).reshape(-1, chunk)  # padding writes nothing

    among = jnp.einsum("MCd,MSd->MCS", k, k) + bias
    inverse = _unit_lower_inverse(jnp.tril(among, -1) * beta[..., None]) * beta[:, None]
    read = jnp.einsum("MCd,MSd->MCS", q, k) + bias
    read = jnp.tril(read, 0 if order == "adapt_first" else -1)
    # What is written and answered is affine in the weights that a chunk finds: all but that in
    # parallel, for all chunks. The last column is that of the bias.
    ones = jnp.ones((*k.shape[:2], int(bias)), k.dtype)
    own = jnp.concatenate([v, k, ones], axis=-1)
    write = inverse @ own
    told = jnp.concatenate([jnp.zeros_like(v), q, ones], axis=-1) - read @ write

    def advance(fast, x):
        k, write, told = x
        rows = jnp.concatenate([write, told])
        found = jnp.concatenate([fast["w"], fast["b"][None]]) if bias else fast["w"]
        out = rows[:, :d] - rows[:, d:] @ found  # what is written, then minus what is told
        moved = {"w": fast["w"] + k.T @ out[:chunk]}
        if bias:
            moved["b"] = fast["b"] + jnp.sum(out[:chunk], axis=0)
        return moved, -out[chunk:]

    fast, out = jax.lax.scan(advance, fast, (k, write, told))
    return out.reshape(-1, d)[:length], fast


def _unit_lower_inverse(lower: Float[Array, "M C C"]) -> Float[Array, "M C C"]:
    """`(I + lower)^-1`: halves joined by products, down to blocks of 8.

    Those go by forward substitution, written out, each entry a vector over all blocks: many small
    triangular solves are slow on a CPU, and powers of `lower` would cancel.
    """
    size = lower.shape[-1]
    if size <= 8 or size % 2:
        return _substituted(lower)
    half = size // 2
    diagonal = jnp.concatenate([lower[:, :half, :half], lower[:, half:, half:]])
    first, last = jnp.split(_unit_lower_inverse(diagonal), 2)
    below = -last @ (lower[:, half:, :half] @ first)
    top = jnp.concatenate([first, jnp.zeros_like(below)], axis=-1)
    return jnp.concatenate([top, jnp.concatenate([below, last], axis=-1)], axis=-2)


def _substituted(lower: Float[Array, "M C C"]) -> Float[Array, "M C C"]:
    size, entries = lower.shape[-1], jnp.moveaxis(lower, 0, -1)
    one, zero = jnp.ones_like(entries[0, 0]), jnp.zeros_like(entries[0, 0])
    rows: list[list[jax.Array]] = []
    for i in range(size):
        known = [
            -sum((entries[i, s] * rows[s][j] for s in range(j + 1, i)), entries[i, j])
            for j in range(i)
        ]
        rows.append([*known, one, *[zero] * (size - i - 1)])
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
