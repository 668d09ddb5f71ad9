"""The output head without its logits: attention over the vocabulary, one block at a time.

Axes: T tokens, V vocabulary, D width; `*batch` are any leading axes (units, tokens).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ponderttt.models.lookup import rows_of

BLOCK = 2048
"""Rows of the head at a time: small enough for the caches, large enough for the product."""


TOKENS = 256
"""So many tokens at a time where the head itself is trained: their logits stay in the caches."""


class HeadStatistics(NamedTuple):
    """What one pass over the vocabulary knows of each prediction, in nats."""

    nll: Float[Array, "*batch"]
    entropy: Float[Array, "*batch"]
    max_log_prob: Float[Array, "*batch"]


class _Sums(NamedTuple):
    """Over the vocabulary seen so far, relative to its largest logit."""

    maximum: Float[Array, "*batch"]
    total: Float[Array, "*batch"]
    carried: Any  # what the caller accumulates, rescaled with the maximum


@jax.custom_vjp
def head_nll(
    hidden: Float[Array, "*batch D"],
    head: Float[Array, "V D"],
    targets: Int[Array | np.ndarray, "*batch"],
) -> Float[Array, "*batch"]:
    """Negative log-likelihood of `targets` under `softmax(hidden @ head.T)`, in nats, float32.

    A running log-sum-exp over blocks of the vocabulary: `[..., V]` never exists. Differentiable
    with respect to `hidden` only: the head is frozen, its gradient is zero. Loss and gradient
    together take one pass, two matrix products: `d nll / d hidden = softmax @ head - head[target]`
    is accumulated beside the sum, as in flash attention (Dao et al., 2205.14135).
    """
    sums = _over_vocabulary(hidden, head, (), lambda carried, *_: carried)
    return _nll(sums, hidden, head, targets)


def _forward(hidden, head, targets):
    def pull(mean, scale, logits, weights, rows):
        pulled = jnp.matmul(weights.astype(rows.dtype), rows, preferred_element_type=jnp.float32)
        return mean * scale[..., None] + pulled

    sums = _over_vocabulary(hidden, head, jnp.zeros(hidden.shape, jnp.float32), pull)
    target = rows_of(head, targets).astype(jnp.float32)
    gradient = sums.carried / sums.total[..., None] - target
    return _nll(sums, hidden, head, targets), gradient.astype(hidden.dtype)


def _backward(gradient, cotangent):
    return cotangent[..., None].astype(gradient.dtype) * gradient, None, None


head_nll.defvjp(_forward, _backward)


def head_statistics(
    hidden: Float[Array, "*batch D"],
    head: Float[Array, "V D"],
    targets: Int[Array | np.ndarray, "*batch"],
) -> HeadStatistics:
    """`head_nll` with the predictive entropy and the largest log-probability, in the same pass."""

    def expect(mean_logit, scale, logits, weights, rows):
        return mean_logit * scale + jnp.sum(weights * logits, axis=-1)

    sums = _over_vocabulary(hidden, head, jnp.zeros(targets.shape), expect)
    log_total = jnp.log(sums.total)
    return HeadStatistics(
        nll=_nll(sums, hidden, head, targets),
        entropy=sums.maximum + log_total - sums.carried / sums.total,
        max_log_prob=-log_total,
    )


def _over_vocabulary(hidden, head, carried, accumulate) -> _Sums:
    """The sums over the whole vocabulary; `accumulate(carried, scale, logits, weights, rows)`."""

    def advance(sums: _Sums, rows) -> _Sums:
        logits = jnp.einsum("...D,VD->...V", hidden, rows, preferred_element_type=jnp.float32)
        maximum = jnp.maximum(sums.maximum, jnp.max(logits, axis=-1))
        scale = jnp.exp(sums.maximum - maximum)
        weights = jnp.exp(logits - maximum[..., None])
        total = sums.total * scale + jnp.sum(weights, axis=-1)
        return _Sums(maximum, total, accumulate(sums.carried, scale, logits, weights, rows))

    batch = hidden.shape[:-1]
    sums = _Sums(jnp.full(batch, -jnp.inf), jnp.zeros(batch), carried)
    whole = head.shape[0] // BLOCK

    def block(i, sums: _Sums) -> _Sums:
        return advance(sums, jax.lax.dynamic_slice_in_dim(head, i * BLOCK, BLOCK))

    if whole:
        sums = jax.lax.fori_loop(0, whole, block, sums)
    rest = head[whole * BLOCK :]
    return advance(sums, rest) if rest.shape[0] else sums


def _nll(sums: _Sums, hidden, head, targets):
    rows = rows_of(head, targets).astype(jnp.float32)
    target_logit = jnp.sum(hidden.astype(jnp.float32) * rows, axis=-1)
    return sums.maximum + jnp.log(sums.total) - target_logit


@jax.custom_vjp
def head_loss(
    hidden: Float[Array, "T D"],
    head: Float[Array, "V D"],
    targets: Int[Array, "T"],
    weights: Float[Array, "T"],
) -> tuple[Float[Array, ""], Float[Array, "T"]]:
    """`sum weights * nll` and the `nll` of each token, where the head itself is trained.

    The sum is differentiable with respect to `hidden` and `head`; `nll` is to be looked at, its
    gradient is zero. A few tokens at a time meet the whole head: their logits stay in the caches,
    and loss and both gradients take one pass, three products.
    """
    nothing = lambda carried, *_: (carried, ())  # noqa: E731
    _, (nll, _) = _over_tokens((), hidden, head, targets, weights, nothing)
    return jnp.sum(weights * nll), nll


def _head_loss_forward(hidden, head, targets, weights):
    def pull(gradient, rows, weights, terms, total):
        share = weights[:, None] / total  # scaled where it is narrow
        return gradient + terms.T @ (share * rows), share * (terms @ head)

    start = jnp.zeros(head.shape, jnp.float32)
    pulled, (nll, gradient) = _over_tokens(start, hidden, head, targets, weights, pull)
    wanted = weights[:, None] * rows_of(head, targets)
    pulled = pulled.at[targets].add(-weights[:, None] * hidden)
    return (jnp.sum(weights * nll), nll), (gradient - wanted, pulled)


def _head_loss_backward(gradients, cotangent):
    hidden, head = gradients
    return cotangent[0] * hidden, cotangent[0] * head, None, None


head_loss.defvjp(_head_loss_forward, _head_loss_backward)


def _over_tokens(carried, hidden, head, targets, weights, pull):
    """`(carried, (nll [T], what pull adds for each token))`, `TOKENS` of them at a time."""
    count = hidden.shape[0]
    size = min(TOKENS, count)

    def pieces(x):
        padded = jnp.pad(x, ((0, -count % size),) + ((0, 0),) * (x.ndim - 1))
        return padded.reshape(-1, size, *x.shape[1:])

    def some(carried, piece):
        rows, targets, weights = piece
        logits = rows @ head.T
        top = jnp.max(logits, axis=-1, keepdims=True)
        terms = jnp.exp(logits - top)
        total = jnp.sum(terms, axis=-1, keepdims=True)
        target = jnp.sum(rows * rows_of(head, targets), axis=-1)
        nll = (top + jnp.log(total))[:, 0] - target
        carried, extra = pull(carried, rows, weights, terms, total)
        return carried, (nll, extra)

    parts = (pieces(hidden), pieces(targets), pieces(weights))
    carried, out = jax.lax.scan(some, carried, parts)
    return carried, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], out)
