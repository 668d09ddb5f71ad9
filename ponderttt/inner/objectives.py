"""What the fast weights descend: TTT-Linear's reconstruction of views of the hidden state.

The other objective, next-token cross-entropy, is the head's loss on the unit just scored
(`ponderttt.models.adapters.NextToken`): it needs the language model and no views.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ponderttt.inner.fast_weights import FAST_WEIGHTS, Fast, apply_linear, gelu_and_slope
from ponderttt.types import masked_mean


class Views(NamedTuple):
    """Learned projections of one unit's hidden states, and the normalisation of the read-out."""

    q: Float[Array, "H U d"]
    k: Float[Array, "H U d"]
    v: Float[Array, "H U d"]
    gamma: Float[Array, "H d"]
    beta: Float[Array, "H d"]
    mask: Bool[Array, "U"]


class Norm(NamedTuple):
    """TTT-Linear's residual normalisation of one head: `f(x) = x + LN(apply(fast, x))`."""

    gamma: Float[Array, "d"]
    beta: Float[Array, "d"]


def _standardised(x: Float[Array, "U d"]) -> tuple[Float[Array, "U d"], Float[Array, "U 1"]]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)
    return centred * scale, scale


def layer_norm(x: Float[Array, "U d"], norm: Norm) -> Float[Array, "U d"]:
    """Each row brought to mean 0 and variance 1, then scaled by `gamma` and moved by `beta`."""
    return _standardised(x)[0] * norm.gamma[None] + norm.beta[None]


def answer(out: Float[Array, "U d"], q: Float[Array, "U d"], norm: Norm | None):
    """What is read out where the fast weights gave `out` for the queries `q`."""
    return out if norm is None else q + layer_norm(out, norm)


def output_gradient(
    out: Float[Array, "U d"], k: Float[Array, "U d"], v: Float[Array, "U d"], norm: Norm | None
) -> Float[Array, "U d"]:
    """`dl/dz` of each token's `l = 1/2 ||LN(z) - (v - k)||^2` (`1/2 ||z - v||^2` without norm)."""
    if norm is None:
        return out - v
    x, scale = _standardised(out)
    g = (x * norm.gamma[None] + norm.beta[None] - (v - k)) * norm.gamma[None]
    mean = jnp.mean(g, axis=-1, keepdims=True)
    return (g - mean - x * jnp.mean(g * x, axis=-1, keepdims=True)) * scale


def read_out(fast: Fast, views: Views, *, model: str, norm: bool) -> Float[Array, "H U d"]:
    """What the fast weights say of the queries: `q + LN(f(q))`, or `f(q)` without `norm`."""

    def one_head(fast, q, gamma, beta):
        out = FAST_WEIGHTS[model].apply(fast, q)
        return answer(out, q, Norm(gamma, beta) if norm else None)

    return jax.vmap(one_head)(fast, views.q, views.gamma, views.beta)


def reconstruction_loss(fast: Fast, views: Views, *, model: str, norm: bool) -> Float[Array, ""]:
    """`1/2 ||LN(f(k)) - (v - k)||^2`, or `1/2 ||f(k) - v||^2` without `norm`.

    Summed over the head's dimensions and over heads, averaged over the unit's tokens: a step then
    means the same for any batch, and heads do not slow one another down. (TTT, 2407.04620, eq. 5.)
    """

    def one_head(fast, k, v, gamma, beta):
        out = FAST_WEIGHTS[model].apply(fast, k)
        error = layer_norm(out, Norm(gamma, beta)) - (v - k) if norm else out - v
        return 0.5 * jnp.sum(error**2, axis=-1)

    per_token = jax.vmap(one_head)(fast, views.k, views.v, views.gamma, views.beta)
    return masked_mean(jnp.sum(per_token, axis=0), views.mask)


def weighted_gradient(
    fast: Fast,
    k: Float[Array, "U d"],
    v: Float[Array, "U d"],
    weight: Float[Array, "U"],
    *,
    model: str,
    norm: Norm | None,
) -> Fast:
    """`sum_j weight[j] dl_j/dW` of the tokens' reconstruction losses, by hand, for one head."""
    if model == "linear":
        g = output_gradient(apply_linear(fast, k), k, v, norm) * weight[:, None]
        return {"w": k.T @ g} | ({"b": jnp.sum(g, axis=0)} if "b" in fast else {})
    inner, slope = gelu_and_slope(k @ fast["w1"] + fast["b1"][None])
    g2 = output_gradient(inner @ fast["w2"] + fast["b2"][None], k, v, norm) * weight[:, None]
    g1 = g2 @ fast["w2"].T * slope
    return {
        "w1": k.T @ g1, "b1": jnp.sum(g1, axis=0), "w2": inner.T @ g2, "b2": jnp.sum(g2, axis=0),
    }  # fmt: skip


def reconstruction_gradient(fast: Fast, views: Views, *, model: str, norm: bool) -> Fast:
    """The gradient of `reconstruction_loss` with respect to `fast`, without autodiff."""
    weight = views.mask / jnp.maximum(jnp.sum(views.mask), 1)

    def one_head(fast, k, v, gamma, beta):
        k, v = (jnp.where(views.mask[:, None], x, 0) for x in (k, v))  # 0 * nan is nan
        one = Norm(gamma, beta) if norm else None
        return weighted_gradient(fast, k, v, weight.astype(k.dtype), model=model, norm=one)

    return jax.vmap(one_head)(fast, views.k, views.v, views.gamma, views.beta)
