"""Norms and rates of gradients: what the rules share."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules.protocol import Number, Rate


def global_norm(grads: Fast) -> Float[Array, ""]:
    """The joint norm of all leaves, at least 1e-10: its own derivative must be finite."""
    squares = sum(jnp.sum(g**2) for g in jax.tree.leaves(grads))
    return jnp.sqrt(jnp.maximum(squares, 1e-20))


def clip_by_global_norm(grads: Fast, limit: Number) -> Fast:
    """`grads`, scaled down so that their joint norm is at most `limit`."""
    scale = jnp.minimum(1.0, limit / global_norm(grads))
    return jax.tree.map(lambda g: g * scale, grads)


def scaled(rate: Rate, leaf: jax.Array) -> jax.Array:
    """`rate * leaf`, with a per-head rate along the leaf's leading axis."""
    rate = jnp.asarray(rate)
    return rate.reshape(rate.shape + (1,) * (leaf.ndim - rate.ndim)) * leaf
