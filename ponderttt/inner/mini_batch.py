"""One gradient step a mini-batch, answered token by token: TTT-Linear and TTT-MLP.

The gradients of a mini-batch are all taken at the weights `W` it finds, and token i is answered
with `W_i = W - sum_{j<=i} eta[i, j] dl_j/dW`: causal, because of the lower triangle (Sun et al.,
2407.04620, section 2.5). `inner.dual` does a mini-batch in matrix products and never forms `W_i`;
`primal` goes token by token, and may stop and go on anywhere: both give the same.
Axes: T tokens, b tokens a mini-batch, d head width; `*lead` are heads and documents.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ponderttt.inner.fast_weights import FAST_WEIGHTS, Fast
from ponderttt.inner.objectives import Norm, answer, weighted_gradient
from ponderttt.inner.pieces import cut, join


class Rates(NamedTuple):
    """`eta[i, j] = position[i] * token[j]`: where the answer is, and whose gradient it is."""

    position: Float[Array, "b"]
    token: Float[Array, "*lead T"]


class DecodeState(NamedTuple):
    """Where a reader is within its text: all that is needed to go on."""

    fast: Fast
    """The weights that the current mini-batch found."""
    pull: Fast
    """`sum_j token[j] dl_j/dW` over the tokens of the mini-batch that have been read."""
    done: Int[Array, ""]
    """How many those are."""


def begin(fast: Fast) -> DecodeState:
    """At the start of a mini-batch."""
    return DecodeState(fast, jax.tree.map(jnp.zeros_like, fast), jnp.zeros((), jnp.int32))


def primal(
    state: DecodeState,
    q: Float[Array, "*lead T d"],
    k: Float[Array, "*lead T d"],
    v: Float[Array, "*lead T d"],
    rates: Rates,
    *,
    model: str,
    norm: Norm | None,
) -> tuple[Float[Array, "*lead T d"], DecodeState]:
    """Token by token, from anywhere to anywhere: what decoding does."""
    size = rates.position.shape[0]

    def read(state, token):
        q, k, v, rate = token  # [*lead 1 d], rate [*lead 1]
        gradient = weighted_gradient(state.fast, k, v, rate, model=model, norm=norm)
        pull = jax.tree.map(jnp.add, state.pull, gradient)
        here = rates.position[state.done]
        moved = jax.tree.map(lambda w, g: w - here * g, state.fast, pull)
        out = answer(FAST_WEIGHTS[model].apply(moved, q), q, norm)
        done = state.done + 1
        following = begin(moved)._replace(done=done % size)
        within = DecodeState(state.fast, pull, done)
        return jax.tree.map(lambda a, b: jnp.where(done == size, a, b), following, within), out

    q, k, v, token = (cut(x, 1) for x in (q, k, v, rates.token[..., None]))
    state, out = jax.lax.scan(read, state, (q, k, v, token[..., 0]))
    return join(out, q.shape[0]), state
