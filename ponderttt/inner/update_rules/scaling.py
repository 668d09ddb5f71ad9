"""Norms, rates, squares and pulls: what the rules share."""

from typing import NamedTuple

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


def roots(squares: Fast) -> Fast:
    """The square root of every element, at least 1e-15: its derivative must be finite."""
    return jax.tree.map(lambda x: jnp.sqrt(jnp.maximum(x, 1e-30)), squares)


def rescaled_step(fast: Fast, gradient: Fast, rate: Rate, scale: Fast, eps: Number) -> Fast:
    """`W - rate * g / (scale + eps)`, every element by a scale of its own."""
    return jax.tree.map(lambda w, g, s: w - scaled(rate, g / (s + eps)), fast, gradient, scale)


def pulled_back(moved: Fast, fast: Fast, initial: Fast, pull: Number, scale: Fast) -> Fast:
    """`moved + min(1, pull * scale) * (W_0 - W)`: an element never passes its start."""
    return jax.tree.map(
        lambda m, w, w0, s: m + jnp.minimum(1.0, pull * s) * (w0 - w), moved, fast, initial, scale
    )


class MovingSquares(NamedTuple):
    """A moving average of `g^2`: `total <- decay total + (1 - decay) g^2`.

    `weight` is the same sum over ones, `1 - decay^t`: it corrects the bias of the start at zero.
    """

    total: Fast
    weight: Float[Array, ""]

    @classmethod
    def empty(cls, fast: Fast) -> "MovingSquares":
        """Before the first gradient."""
        return cls(jax.tree.map(jnp.zeros_like, fast), jnp.zeros((), jnp.float32))

    def add(self, gradient: Fast, decay: Number) -> "MovingSquares":
        """With one more gradient."""
        total = jax.tree.map(lambda v, g: decay * v + (1 - decay) * g**2, self.total, gradient)
        return MovingSquares(total, decay * self.weight + (1 - decay))

    def root_mean(self) -> Fast:
        """`sqrt(total / weight)` of every element."""
        return roots(jax.tree.map(lambda v: v / self.weight.astype(v.dtype), self.total))
