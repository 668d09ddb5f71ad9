"""The output head without its logits: attention over the vocabulary, one block at a time.

Axes: V vocabulary, D width; `*batch` are any leading axes (units, tokens).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BLOCKS = 12
"""Parts of the vocabulary: small enough for the caches, large enough for the matrix product."""


class HeadStatistics(NamedTuple):
    """What one pass over the vocabulary knows of each prediction, in nats."""

    nll: Float[Array, "*batch"]
    entropy: Float[Array, "*batch"]
    max_log_prob: Float[Array, "*batch"]


@jax.custom_vjp
def head_nll(
    hidden: Float[Array, "*batch D"], head: Float[Array, "V D"], targets: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Negative log-likelihood of `targets` under `softmax(hidden @ head.T)`, in nats, float32.

    A running log-sum-exp over blocks of the vocabulary: `[..., V]` never exists. Differentiable
    with respect to `hidden` once; the head is frozen and gets no gradient. Loss and gradient
    together take one pass, two matrix products: `d nll / d hidden = softmax @ head - head[target]`
    is accumulated beside the sum, as in flash attention (Dao et al., 2205.14135).
    """
    maximum, total = _running_sum(hidden, head)
    return maximum + jnp.log(total) - _target_logit(hidden, head, targets)


def _forward(hidden, head, targets):
    maximum = jnp.full(targets.shape, -jnp.inf)
    total = jnp.zeros(targets.shape)
    mean = jnp.zeros(hidden.shape, jnp.float32)
    for block in _blocks(head):
        maximum, scale, weights = _advance(maximum, hidden, block)
        total = total * scale + jnp.sum(weights, axis=-1)
        pulled = jnp.matmul(weights.astype(block.dtype), block, preferred_element_type=jnp.float32)
        mean = mean * scale[..., None] + pulled
    nll = maximum + jnp.log(total) - _target_logit(hidden, head, targets)
    gradient = mean / total[..., None] - jnp.take(head, targets, axis=0)
    return nll, gradient.astype(hidden.dtype)


def _backward(gradient, cotangent):
    return cotangent[..., None].astype(gradient.dtype) * gradient, None, None


head_nll.defvjp(_forward, _backward)


def head_statistics(
    hidden: Float[Array, "*batch D"], head: Float[Array, "V D"], targets: Int[Array, "*batch"]
) -> HeadStatistics:
    """`head_nll` with the predictive entropy and the largest log-probability, in the same pass."""
    maximum = jnp.full(targets.shape, -jnp.inf)
    total = jnp.zeros(targets.shape)
    moment = jnp.zeros(targets.shape)  # sum of p * (logit - maximum), unnormalised
    for block in _blocks(head):
        before = maximum
        maximum, scale, weights = _advance(maximum, hidden, block)
        shifted = jnp.where(weights > 0, jnp.log(weights), 0.0)
        shift = jnp.where(total > 0, before - maximum, 0.0)
        moment = (moment + shift * total) * scale + jnp.sum(weights * shifted, axis=-1)
        total = total * scale + jnp.sum(weights, axis=-1)
    log_total = jnp.log(total)
    nll = maximum + log_total - _target_logit(hidden, head, targets)
    return HeadStatistics(nll, log_total - moment / total, -log_total)


def _blocks(head):
    size = -(-head.shape[0] // BLOCKS)
    return [head[start : start + size] for start in range(0, head.shape[0], size)]


def _running_sum(hidden, head):
    maximum = jnp.full(hidden.shape[:-1], -jnp.inf)
    total = jnp.zeros(hidden.shape[:-1])
    for block in _blocks(head):
        maximum, scale, weights = _advance(maximum, hidden, block)
        total = total * scale + jnp.sum(weights, axis=-1)
    return maximum, total


def _advance(maximum, hidden, block):
    """The maximum with `block` seen, the factor for sums so far, and exp(logit - maximum)."""
    logits = jnp.einsum("...D,VD->...V", hidden, block, preferred_element_type=jnp.float32)
    larger = jnp.maximum(maximum, jnp.max(logits, axis=-1))
    return larger, jnp.exp(maximum - larger), jnp.exp(logits - larger[..., None])


def _target_logit(hidden, head, targets):
    rows = jnp.take(head, targets, axis=0).astype(jnp.float32)
    return jnp.sum(hidden.astype(jnp.float32) * rows, axis=-1)
