"""Attention of one unit over itself and over the keys and values that were read before it.

What was read before is kept as it was read (`Past`): a unit costs its own tokens only, and nothing
of the past is changed or differentiated. Keys are met a block at a time, with a running softmax
(Dao et al., 2205.14135), and only blocks that hold something are met. Axes: B rows, U tokens of the
unit, G key/value heads, R query heads per key/value head, d head width.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

BLOCK = 512
"""Keys at a time: their scores stay in the caches."""


class Past(NamedTuple):
    """Keys (turned to their positions) and values of the tokens before a unit, newest last."""

    k: Float[Array, "*lead B G past d"]
    v: Float[Array, "*lead B G past d"]


def no_past(lead: tuple[int, ...], window: int, heads: int, width: int, dtype) -> Past:
    """Room for `window` tokens (whole blocks of them), of which none has been read."""
    block = max(1, min(BLOCK, window))
    nothing = jnp.zeros((*lead, heads, -(-window // block) * block, width), dtype)
    return Past(nothing, nothing)


def extend(past: Past, k: Float[Array, "B U G d"], v: Float[Array, "B U G d"]) -> Past:
    """`past` with a unit's keys and values behind it, the oldest ones gone."""
    if not past.k.shape[-2]:
        return past

    def moved(old, new):
        new = jnp.swapaxes(new, 1, 2).astype(old.dtype)  # [B, G, U, d]
        return jnp.concatenate([old, new], axis=2)[:, :, -old.shape[2] :]

    return Past(moved(past.k, k), moved(past.v, v))


def windowed_attention(
    q: Float[Array, "B U G R d"],
    k: Float[Array, "B U G d"],
    v: Float[Array, "B U G d"],
    past: Past,
    seen: Int[Array, ""],
    window: int,
) -> Float[Array, "B U G R d"]:
    """Softmax attention of each query over the `window` keys that end with its own.

    `seen` says how many of the past were read in this context. Differentiable with respect to q, k
    and v; the past is constant.
    """
    b, u, g, r, d = q.shape
    rows = jnp.moveaxis(q, 1, 3).reshape(b, g, r * u, d) * d**-0.5
    own = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
    out = _attend(rows.astype(k.dtype), *own, past, seen, window)
    return jnp.moveaxis(out.reshape(b, g, r, u, d), 3, 1)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(q, k, v, past: Past, seen, window: int):
    return _forward(q, k, v, past, seen, window)[0]


class _Running(NamedTuple):
    """Sums over the keys met so far, relative to the largest score."""

    largest: Float[Array, "B G rows"]
    total: Float[Array, "B G rows"]
    out: Float[Array, "B G rows d"]


def _forward(q, k, v, past, seen, window):
    def add_keys(sums: _Running, k, v, visible) -> _Running:
        scores = _scores(q, k, visible)
        largest = jnp.maximum(sums.largest, jnp.max(scores, axis=-1))
        # A query that sees nothing yet has the lowest number for its largest score.
        weights = jnp.exp(scores - largest[..., None])
        scale = jnp.exp(sums.largest - largest)
        found = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
        return _Running(
            largest,
            sums.total * scale + jnp.sum(weights, axis=-1),
            sums.out * scale[..., None] + found,
        )

    lead, unit = q.shape[:-1], k.shape[2]
    nothing = jnp.full(lead, _LOWEST), jnp.zeros(lead), jnp.zeros((*lead, v.shape[-1]))
    sums = add_keys(_Running(*nothing), k, v, _within(unit))

    def earlier(j, sums: _Running) -> _Running:
        keys, values, visible = _block(past, j, seen, unit, window)
        return add_keys(sums, keys, values, visible)

    sums = _over_past(earlier, past, seen, window, sums)
    out = sums.out / sums.total[..., None]
    return out, (q, k, v, past, seen, out, sums.largest + jnp.log(sums.total))


def _backward(window, residuals, cotangent):
    q, k, v, past, seen, out, log_total = residuals
    inner = jnp.sum(cotangent * out, axis=-1, keepdims=True)
    cotangent = cotangent.astype(v.dtype)

    def pull(k, v, visible):
        """Weights, and the derivative with respect to the scores."""
        weights = jnp.exp(_scores(q, k, visible) - log_total[..., None])
        of_weights = jnp.matmul(cotangent, v.mT, preferred_element_type=jnp.float32)
        return weights.astype(v.dtype), (weights * (of_weights - inner)).astype(k.dtype)

    def product(a, b):
        return jnp.matmul(a, b, preferred_element_type=jnp.float32)

    unit = k.shape[2]
    weights, of_scores = pull(k, v, _within(unit))
    of_k, of_v = product(of_scores.mT, q), product(weights.mT, cotangent)

    def earlier(j, of_q):
        keys, values, visible = _block(past, j, seen, unit, window)
        return of_q + product(pull(keys, values, visible)[1], keys)

    of_q = product(of_scores, k)
    of_q = _over_past(earlier, past, seen, window, of_q)
    return of_q.astype(q.dtype), of_k.astype(k.dtype), of_v.astype(v.dtype), None, None


_attend.defvjp(_forward, _backward)

_LOWEST = float(np.finfo(np.float32).min)


def _scores(q, k, visible):
    """Scores of rows [B, G, R * U, d] over keys [B, G, K, d]; the lowest number where unseen."""
    scores = jnp.matmul(q, k.mT, preferred_element_type=jnp.float32)
    by_query = scores.reshape(*scores.shape[:2], -1, *visible.shape)
    return jnp.where(visible[None, None, None], by_query, -jnp.inf).reshape(scores.shape)


def _within(unit: int):
    """What the queries of a unit see of it: [U, U]."""
    return jnp.asarray(np.tri(unit, dtype=bool))


def _over_past(earlier, past: Past, seen, window: int, carried):
    """`earlier(j, carried)` over the blocks that hold something, the newest first."""
    if not past.k.shape[-2]:
        return carried
    block = min(BLOCK, window)
    blocks = jnp.minimum(-(-seen // block), past.k.shape[-2] // block)
    return jax.lax.fori_loop(0, blocks, earlier, carried)


def _block(past: Past, j, seen, unit: int, window: int):
    """Keys, values and visibility [U, keys] of the block that is the j-th from the newest."""
    block = min(BLOCK, window)
    size = past.k.shape[-2]
    start = size - (j + 1) * block
    keys, values = (jax.lax.dynamic_slice_in_dim(x, start, block, axis=2) for x in past)
    back = size - start - jnp.arange(block)  # how far before the unit each key is: 1 and more
    distance = back[None] + jnp.arange(unit)[:, None]
    return keys, values, (back <= seen)[None] & (distance < window)


def windowed_summary(
    q: Float[Array, "B U G R d"],
    k: Float[Array, "B U G d"],
    past_k: Float[Array, "B G past d"],
    seen: Int[Array, ""],
    window: int,
) -> Float[Array, "B U 4"]:
    """Four numbers of each query's weights over the `window` keys that end with its own.

    All in [0, 1]: mean over heads of their entropy / ln window, its standard deviation over heads,
    the mean largest weight, and the share of the visible keys whose weight is below 1 / window.
    """
    unit, before = q.shape[1], past_k.shape[2]
    keys = jnp.concatenate([past_k, jnp.swapaxes(k, 1, 2).astype(past_k.dtype)], axis=2)
    scores = jnp.einsum("BQGRd,BGKd->BGRQK", q, keys, preferred_element_type=jnp.float32)
    place = np.arange(-before, unit)
    distance = np.arange(unit)[:, None] - place[None]
    visible = (distance >= 0) & (distance < window) & (place[None] >= -seen)
    scores = jnp.where(visible[None, None, None], scores * q.shape[-1] ** -0.5, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1)
    entropy = jnp.sum(jax.scipy.special.entr(weights), axis=-1) / max(np.log(window), 1.0)
    small = jnp.sum((weights > 0) & (weights < 1 / window), axis=-1, dtype=jnp.float32)
    share = small / jnp.sum(visible, axis=-1, dtype=jnp.float32)[None, None, None]
    heads = (1, 2)
    return jnp.stack(
        [
            jnp.mean(entropy, axis=heads),
            jnp.std(entropy, axis=heads),
            jnp.mean(jnp.max(weights, axis=-1), axis=heads),
            jnp.mean(share, axis=heads),
        ],
        axis=-1,
    )
