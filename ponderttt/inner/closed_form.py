"""K steps on one token at no price: linear fast weights without a norm, in closed form.

On `1/2 ||k W + b - v||^2`, K gradient steps of size `rate` on one token are one step of size
`beta_K`; a sequence of such steps is a delta rule, and so has a form that is parallel in chunks.
Axes: T tokens, d head width; `chunk` are the tokens taken at once; `*lead` are heads and documents.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ponderttt.inner.descent import Order
from ponderttt.inner.fast_weights import Fast, apply_linear
from ponderttt.inner.pieces import cut, join


def effective_rate(
    rate: Float[Array, "*T"], square: Float[Array, "*T"], steps: Int[Array, "*T"], max_steps: int
) -> Float[Array, "*T"]:
    """`beta_K = rate * sum_{i<K} (1 - rate * square)^i`: the one step that K steps amount to.

    `square` is `||k||^2` (plus 1 with a bias). By doubling, so that there is no cancellation where
    `rate * square` is small, and K costs log K. Steps above `max_steps` take `max_steps`.
    """
    steps = jnp.clip(steps, 0, max_steps)
    shrink = 1 - rate * square
    total, power = jnp.zeros_like(shrink), jnp.ones_like(shrink)  # the sum, and shrink^n
    for bit in reversed(range(max_steps.bit_length())):
        total, power = total * (1 + power), power * power
        odd = (steps >> bit) & 1 == 1
        total = jnp.where(odd, total * shrink + 1, total)
        power = jnp.where(odd, power * shrink, power)
    return rate * total


def _squares(fast: Fast, k: Float[Array, "*T d"]) -> Float[Array, "*T"]:
    return jnp.sum(k * k, axis=-1) + int("b" in fast)


def closed_form(
    fast: Fast,
    q: Float[Array, "*lead T d"],
    k: Float[Array, "*lead T d"],
    v: Float[Array, "*lead T d"],
    rate: Float[Array, "*lead T"],
    steps: Int[Array, "*lead T"],
    *,
    max_steps: int,
    order: Order = "adapt_first",
) -> tuple[Float[Array, "*lead T d"], Fast]:
    """Token by token, one rank-1 step each: the answers to `q`, and the last fast weights."""

    def read(fast, token):
        q, k, v, beta = token  # [*lead 1 d], beta [*lead 1 1]
        error = beta * (v - apply_linear(fast, k))
        moved = {"w": fast["w"] + jnp.swapaxes(k, -1, -2) * error}
        if "b" in fast:
            moved["b"] = fast["b"] + error[..., 0, :]
        return moved, apply_linear(moved if order == "adapt_first" else fast, q)

    beta = effective_rate(rate, _squares(fast, k), steps, max_steps)
    tokens = tuple(cut(x, 1) for x in (q, k, v, beta[..., None]))
    fast, out = jax.lax.scan(read, fast, tokens)
    return join(out, q.shape[-2]), fast


def chunkwise(
    fast: Fast,
    q: Float[Array, "*lead T d"],
    k: Float[Array, "*lead T d"],
    v: Float[Array, "*lead T d"],
    rate: Float[Array, "*lead T"],
    steps: Int[Array, "*lead T"],
    *,
    max_steps: int,
    chunk: int = 16,
    order: Order = "adapt_first",
) -> tuple[Float[Array, "*lead T d"], Fast]:
    """`closed_form` with T / `chunk` sequential steps, whatever K is at each token.

    What a chunk's tokens write, `u_t = beta_t (v_t - k_t W - sum_{s<t} (k_t . k_s) u_s)`, solves
    one unit lower-triangular system, whose inverse does not depend on W: the WY (UT) form of the
    delta rule (Yang et al., 2406.06484) with `beta_{K_t}` for its rate. A bias is one more
    coordinate of every key and query, equal to 1.
    """
    beta = effective_rate(rate, _squares(fast, k), steps, max_steps)
    length = q.shape[-2]
    # So many chunks are prepared at once as stay in a processor's cache.
    size = chunk * min(8, -(-length // chunk))
    texts = tuple(cut(x, size) for x in (q, k, v, beta[..., None]))  # padding writes nothing
    read = partial(_read_chunks, chunk=chunk, order=order)
    fast, out = jax.lax.scan(lambda fast, text: read(fast, *text), fast, texts)
    return join(out, length), fast


def _read_chunks(fast: Fast, q, k, v, beta, *, chunk: int, order: Order) -> tuple[Fast, jax.Array]:
    bias, length = "b" in fast, q.shape[-2]
    q, k, v, beta = (cut(x, chunk) for x in (q, k, v, beta))
    keys = jnp.swapaxes(k, -1, -2)

    among = beta * jnp.tril(k @ keys + int(bias), -1)
    inverse = _unit_lower_inverse(among) * jnp.swapaxes(beta, -1, -2)
    read = jnp.tril(q @ keys + int(bias), 0 if order == "adapt_first" else -1)
    # What is written and answered is affine in the weights that a chunk finds: all but that in
    # parallel, for all chunks.
    written, erased = inverse @ v, inverse @ k
    answers, asked = read @ written, q - read @ erased
    rows = jnp.concatenate([erased, asked], axis=-2)
    lost = jnp.sum(inverse, axis=-1, keepdims=True)
    retained = 1 - read @ lost

    def advance(fast, x):
        keys, written, answers, rows, lost, retained = x
        found = rows @ fast["w"]
        error, out = written - found[..., :chunk, :], answers + found[..., chunk:, :]
        if not bias:
            return {"w": fast["w"] + keys @ error}, out
        error, out = (
            error - lost * fast["b"][..., None, :],
            out + retained * fast["b"][..., None, :],
        )
        return {"w": fast["w"] + keys @ error, "b": fast["b"] + jnp.sum(error, axis=-2)}, out

    fast, out = jax.lax.scan(advance, fast, (keys, written, answers, rows, lost, retained))
    return fast, join(out, length)


@jax.custom_jvp
def _unit_lower_inverse(
    lower: Float[Array, "*lead chunk chunk"],
) -> Float[Array, "*lead chunk chunk"]:
    """`(I + lower)^-1`, `lower` strictly lower triangular; `d X = -X dL X` going forward and back.

    Through the substitution below, derivatives would cost several times the function.
    """
    return _halves_joined(lower)


@_unit_lower_inverse.defjvp
def _unit_lower_inverse_jvp(primals, tangents):
    inverse = _unit_lower_inverse(*primals)
    return inverse, -inverse @ (tangents[0] @ inverse)


def _halves_joined(lower: Float[Array, "*lead chunk chunk"]) -> Float[Array, "*lead chunk chunk"]:
    """Halves joined by products, down to blocks of 8.

    Those go by forward substitution, written out, each entry a vector over all blocks: many small
    triangular solves are slow on a CPU, and powers of `lower` would cancel.
    """
    size = lower.shape[-1]
    if size <= 8 or size % 2:
        return _substituted(lower)
    half = size // 2
    diagonal = jnp.stack([lower[..., :half, :half], lower[..., half:, half:]])
    first, last = _halves_joined(diagonal)
    below = -last @ (lower[..., half:, :half] @ first)
    top = jnp.concatenate([first, jnp.zeros_like(below)], axis=-1)
    return jnp.concatenate([top, jnp.concatenate([below, last], axis=-1)], axis=-2)


def _substituted(lower: Float[Array, "*lead chunk chunk"]) -> Float[Array, "*lead chunk chunk"]:
    size, entries = lower.shape[-1], jnp.moveaxis(lower, (-2, -1), (0, 1))
    one, zero = jnp.ones_like(entries[0, 0]), jnp.zeros_like(entries[0, 0])
    rows: list[list[jax.Array]] = []
    for i in range(size):
        known = [
            -sum((entries[i, s] * rows[s][j] for s in range(j + 1, i)), entries[i, j])
            for j in range(i)
        ]
        rows.append([*known, one, *[zero] * (size - i - 1)])
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
