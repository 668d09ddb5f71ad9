"""Causal attention and rotary positions.

Axes: B rows, T tokens, G key/value heads, R query heads per key/value head, d head width.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ponderttt.models.decoder.config import DecoderConfig

QUERY_BLOCK = 128
"""Queries that are handled together: keys after the last of them are never touched."""


def causal_attention(
    q: Float[Array, "B T G R d"], k: Float[Array, "B T G d"], v: Float[Array, "B T G d"]
) -> Float[Array, "B T G R d"]:
    """Softmax attention of each query over the keys up to its own position.

    A later key's weight is exactly zero, so that an output's bits do not depend on later tokens.
    """
    t = q.shape[1]
    outputs = []
    for start in range(0, t, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, t)
        outputs.append(_attend(q[:, start:stop], k[:, :stop], v[:, :stop]))
    return jnp.concatenate(outputs, axis=1)


def _attend(q, k, v):
    return jnp.einsum("BGRQK,BKGd->BQGRd", _weights(q, k).astype(v.dtype), v)


def _weights(q, k):
    """Softmax weights; the last `q.shape[1]` positions of `k` are those of the queries."""
    queries, keys = q.shape[1], k.shape[1]
    scores = jnp.einsum("BQGRd,BKGd->BGRQK", q, k, preferred_element_type=jnp.float32)
    seen = np.arange(keys)[None] <= np.arange(keys - queries, keys)[:, None]
    scores = jnp.where(seen[None, None, None], scores * q.shape[-1] ** -0.5, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1)


def rotary_angles(
    config: DecoderConfig, length: int, *, apart: int = 1
) -> Float[Array, "T half"] | None:
    """Angle of each rotated pair at `length` positions from 0, so many `apart`.

    None without rotary positions. Whole turns are taken off in float64: far positions are as exact
    as near ones.
    """
    if not config.rotary_dim:
        return None
    frequency = config.rope_base ** (-np.arange(0, config.rotary_dim, 2) / config.rotary_dim)
    if config.rope_scaling is not None:
        frequency = config.rope_scaling.scale(frequency)
    angles = np.outer(apart * np.arange(length), frequency)
    return jnp.asarray(angles % (2 * np.pi), jnp.float32)


def rotate(x: Float[Array, "B T *heads d"], angles: Float[Array, "T *ones half"]) -> jax.Array:
    """Rotate the pairs (i, i + half) of the first 2 * half dimensions; the rest pass through."""
    half = angles.shape[-1]
    cos, sin = jnp.cos(angles)[None], jnp.sin(angles)[None]
    first, second, rest = jnp.split(x.astype(jnp.float32), [half, 2 * half], axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin, rest]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
