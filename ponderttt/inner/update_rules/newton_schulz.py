"""Orthogonalised steps, as Muon takes them."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ponderttt import pytree
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules.protocol import Rate, RuleState
from ponderttt.inner.update_rules.scaling import global_norm, scaled

A, B, C = 3.4445, -4.7750, 2.0315
"""Of Muon: the steepest at 0, which leaves singular values between about 0.7 and 1.2."""


def orthogonalize(g: Float[Array, "*lead i o"], iterations: int) -> Float[Array, "*lead i o"]:
    """`U V^T` of `g = U S V^T`, nearly: `X <- a X + b (X X^T) X + c (X X^T)^2 X` from `g / |g|`.

    It runs on the smaller side, and on each matrix of the leading axes alone.
    """
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    x = x / jnp.sqrt(jnp.maximum(jnp.sum(x**2, axis=(-2, -1), keepdims=True), 1e-20))
    for _ in range(iterations):
        square = x @ x.mT
        x = A * x + (B * square + C * square @ square) @ x
    return x.mT if tall else x


@dataclass(frozen=True)
class NewtonSchulz:
    """`W <- W - rate * sqrt(max(1, out / in)) * orthogonalize(g)`, matrix by matrix.

    A leaf's last two axes are its matrix, [in, out]; a leaf that has fewer axes steps by
    `g / |g|`. Jordan et al., 2024 (Muon), without its momentum.
    """

    rate: Rate
    iterations: int = 5

    def init(self, fast: Fast) -> RuleState:
        return ()

    def step(self, fast: Fast, gradient: Fast, state: RuleState) -> tuple[Fast, RuleState]:
        def direction(g: jax.Array) -> jax.Array:
            if g.ndim < 2:
                return g / global_norm(g)
            scale = math.sqrt(max(1.0, g.shape[-1] / g.shape[-2]))
            return scale * orthogonalize(g, self.iterations)

        moved = jax.tree.map(lambda w, g: w - scaled(self.rate, direction(g)), fast, gradient)
        return moved, state


pytree.register(NewtonSchulz, meta_fields=["iterations"])
