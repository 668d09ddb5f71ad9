"""Texts cut into equal pieces for a scan, and their answers joined again."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def cut(x: Float[Array, "*lead T width"], size: int) -> Float[Array, "pieces *lead size width"]:
    """Pieces of `size` tokens in front, the last one padded with zeros."""
    *lead, length, width = x.shape
    padded = jnp.pad(x, [(0, 0)] * len(lead) + [(0, -length % size), (0, 0)])
    return jnp.moveaxis(padded.reshape(*lead, -1, size, width), -3, 0)


def join(x: Float[Array, "pieces *lead size width"], length: int) -> Float[Array, "*lead T width"]:
    """The first `length` tokens of what `cut` has cut."""
    x = jnp.moveaxis(x, 0, -3)
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])[..., :length, :]
