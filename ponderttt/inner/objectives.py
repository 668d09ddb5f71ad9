"""What the fast weights descend: TTT-Linear's reconstruction of views of the hidden state.

The other objective, next-token cross-entropy, is the head's loss on the unit just scored
(`ponderttt.models.adapters.adapters.NextToken`): it needs the language model and no views.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ponderttt.inner.fast_weights import FAST_WEIGHTS, Fast, apply_linear, gelu_and_slope, outer_sum
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
    """TTT-Linear's residual normalisation: `f(x) = x + LN(apply(fast, x))`."""

    gamma: Float[Array, "*lead d"]
    beta: Float[Array, "*lead d"]


def _mean(x: Float[Array, "*lead U d"]) -> Float[Array, "*lead U 1"]:
    """Each row's mean, as a product: a fused sum is done anew for each of its elements on a CPU."""
    wide = x.dtype if x.dtype.itemsize > 4 else jnp.float32
    ones = jnp.ones(x.shape[-1], x.dtype)
    total = jnp.matmul(x, ones, precision="highest", preferred_element_type=wide)
    return (total / x.shape[-1]).astype(x.dtype)[..., None]


def _standardised(x: Float[Array, "*lead U d"]):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)
    return centred * scale, scale


def layer_norm(x: Float[Array, "*lead U d"], norm: Norm) -> Float[Array, "*lead U d"]:
    """Each row brought to mean 0 and variance 1, then scaled by `gamma` and moved by `beta`."""
    return _standardised(x)[0] * norm.gamma[..., None, :] + norm.beta[..., None, :]


def answer(out: Float[Array, "*lead U d"], q: Float[Array, "*lead U d"], norm: Norm | None):
    """What is read out where the fast weights gave `out` for the queries `q`."""
    return out if norm is None else q + layer_norm(out, norm)


def output_gradient(
    out: Float[Array, "*lead U d"],
    k: Float[Array, "*lead U d"],
    v: Float[Array, "*lead U d"],
    norm: Norm | None,
) -> Float[Array, "*lead U d"]:
    """`dl/dz` of each token's `l = 1/2 ||LN(z) - (v - k)||^2` (`1/2 ||z - v||^2` without norm)."""
    if norm is None:
        return out - v
    gamma, beta = norm.gamma[..., None, :], norm.beta[..., None, :]
    x, scale = _standardised(out)
    g = (x * gamma + beta - (v - k)) * gamma
    return (g - _mean(g) - x * _mean(g * x)) * scale


def read_out(fast: Fast, views: Views, *, model: str, norm: bool) -> Float[Array, "H U d"]:
    """What the fast weights say of the queries: `q + LN(f(q))`, or `f(q)` without `norm`."""
    return answer(FAST_WEIGHTS[model].apply(fast, views.q), views.q, _norm_of(views, norm))


def reconstruction_loss(fast: Fast, views: Views, *, model: str, norm: bool) -> Float[Array, ""]:
    """`1/2 ||LN(f(k)) - (v - k)||^2`, or `1/2 ||f(k) - v||^2` without `norm`.

    Summed over the head's dimensions and over heads, averaged over the unit's tokens: a step then
    means the same for any batch, and heads do not slow one another down. (TTT, 2407.04620, eq. 5.)
    """
    out, used = FAST_WEIGHTS[model].apply(fast, views.k), _norm_of(views, norm)
    error = out - views.v if used is None else layer_norm(out, used) - (views.v - views.k)
    return masked_mean(0.5 * jnp.sum(error**2, axis=(0, -1)), views.mask)


def _norm_of(views: Views, norm: bool) -> Norm | None:
    return Norm(views.gamma, views.beta) if norm else None


def weighted_gradient(
    fast: Fast,
    k: Float[Array, "*lead U d"],
    v: Float[Array, "*lead U d"],
    weight: Float[Array, "*lead U"],
    *,
    model: str,
    norm: Norm | None,
) -> Fast:
    """`sum_j weight[j] dl_j/dW` of the tokens' reconstruction losses, by hand."""
    if model == "linear":
        g = output_gradient(apply_linear(fast, k), k, v, norm) * weight[..., None]
        return {"w": outer_sum(k, g)} | ({"b": outer_sum(None, g)} if "b" in fast else {})
    inner, slope = gelu_and_slope(k @ fast["w1"] + fast["b1"][..., None, :])
    out = inner @ fast["w2"] + fast["b2"][..., None, :]
    g2 = output_gradient(out, k, v, norm) * weight[..., None]
    g1 = g2 @ fast["w2"].mT * slope
    return {
        "w1": outer_sum(k, g1), "b1": outer_sum(None, g1),
        "w2": outer_sum(inner, g2), "b2": outer_sum(None, g2),
    }  # fmt: skip


def reconstruction_gradient(fast: Fast, views: Views, *, model: str, norm: bool) -> Fast:
    """The gradient of `reconstruction_loss` with respect to `fast`, without autodiff."""
    weight = views.mask.astype(float) / jnp.maximum(jnp.sum(views.mask), 1).astype(float)
    seen = views.mask[None, :, None]
    k, v = (jnp.where(seen, x, 0) for x in (views.k, views.v))  # 0 * nan is nan
    weights = jnp.broadcast_to(weight.astype(k.dtype), k.shape[:-1])
    return weighted_gradient(fast, k, v, weights, model=model, norm=_norm_of(views, norm))
