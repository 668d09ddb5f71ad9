"""What the fast weights descend: TTT-Linear's reconstruction of views of the hidden state.

The other objective, next-token cross-entropy, is the head's loss on the unit just scored
(`ponderttt.models.adapters.NextToken`): it needs the language model and no views.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ponderttt.inner.fast_weights import FAST_WEIGHTS, Fast
from ponderttt.types import masked_mean


class Views(NamedTuple):
    """Learned projections of one unit's hidden states, and the normalisation of the read-out."""

    q: Float[Array, "H U d"]
    k: Float[Array, "H U d"]
    v: Float[Array, "H U d"]
    gamma: Float[Array, "H d"]
    beta: Float[Array, "H d"]
    mask: Bool[Array, "U"]


def _layer_norm(x: Float[Array, "U d"], gamma: Float[Array, "d"], beta: Float[Array, "d"]):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)
    return centred * scale * gamma[None] + beta[None]


def read_out(fast: Fast, views: Views, *, model: str, norm: bool) -> Float[Array, "H U d"]:
    """What the fast weights say of the queries: `q + LN(f(q))`, or `f(q)` without `norm`."""

    def one_head(fast, q, gamma, beta):
        out = FAST_WEIGHTS[model].apply(fast, q)
        return q + _layer_norm(out, gamma, beta) if norm else out

    return jax.vmap(one_head)(fast, views.q, views.gamma, views.beta)


def reconstruction_loss(fast: Fast, views: Views, *, model: str, norm: bool) -> Float[Array, ""]:
    """`1/2 ||LN(f(k)) - (v - k)||^2`, or `1/2 ||f(k) - v||^2` without `norm`.

    Summed over the head's dimensions and over heads, averaged over the unit's tokens: a step then
    means the same for any batch, and heads do not slow one another down. (TTT, 2407.04620, eq. 5.)
    """

    def one_head(fast, k, v, gamma, beta):
        out = FAST_WEIGHTS[model].apply(fast, k)
        error = _layer_norm(out, gamma, beta) - (v - k) if norm else out - v
        return 0.5 * jnp.sum(error**2, axis=-1)

    per_token = jax.vmap(one_head)(fast, views.k, views.v, views.gamma, views.beta)
    return masked_mean(jnp.sum(per_token, axis=0), views.mask)
