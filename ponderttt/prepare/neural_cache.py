"""The continuous cache: what was read is found again by the state that predicted it."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ponderttt.cache import Arrays, cached, code_fingerprint, fingerprint
from ponderttt.environment.reading import begin, open_text, views
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.types import Documents


def cache_losses(
    reader: RepositoryReader,
    document: Documents,
    suffix_blocks: int,
    sharpness: Sequence[float],
) -> Float[np.ndarray, "sharpness N U"]:
    """What the continuous cache of Grave et al. (1612.04426) gives each token, in nats.

    `-ln p(x_t)`, `p` the weights of the tokens before t in the repository that are x_t:
    `softmax(sharpness cos(h_t, h_i))` over all i < t, h the state that predicts a token. 0
    weighs all alike (a unigram cache). Infinite where no earlier token is x_t.
    """
    key = fingerprint(
        code_fingerprint(__name__), reader.lm.fingerprint, repr(reader.window), document,
        "cache", suffix_blocks, tuple(sharpness),
    )  # fmt: skip

    def compute() -> Arrays:
        adapter = NextToken(SGD(jnp.zeros(())), suffix_blocks=suffix_blocks)
        hidden = reader.states(document, suffix_blocks)
        last = _last_states(reader.lm, adapter, document, hidden, reader.window)
        tokens, mask = (np.asarray(x[0]) for x in (document.tokens, document.mask))
        losses = _cache_losses(last, tokens, mask, jnp.asarray(sharpness, float))
        return {"losses": np.asarray(losses)}

    return cached("episodes", key, compute)["losses"]


def _last_states(lm, adapter, document, hidden, window) -> Float[Array, "N U D"]:
    """What the head reads, from the states before the last blocks."""
    if not adapter.suffix_blocks:
        return jnp.asarray(hidden[0], jnp.float32)
    text, window = open_text(lm, adapter, document, hidden, window)
    return _run_blocks(lm, adapter, jax.tree.map(lambda x: x[0], text), window=window)


@partial(jax.jit, static_argnames="window")
def _run_blocks(lm, adapter, text, *, window):
    view_of = views(lm, adapter, text, window)
    learned = begin(lm, adapter, window, text.tokens.shape[-1])

    def run(past, n):
        read = adapter.read(lm, learned.fast, view_of(n, past), learns=False)
        return read.past, read.hidden.astype(jnp.float32)

    return jax.lax.scan(run, learned.past, jnp.arange(text.tokens.shape[0]))[1]


@jax.jit
def _cache_losses(
    states: Float[Array, "N U D"],
    tokens: Int[Array | np.ndarray, "N U"],
    mask: Bool[Array | np.ndarray, "N U"],
    sharpness: Float[Array, "sharpness"],
) -> Float[Array, "sharpness N U"]:
    """Unit by unit over all keys of the document, those not read yet left out."""
    n_units, unit = tokens.shape
    keys = states * jax.lax.rsqrt(jnp.sum(states**2, axis=-1, keepdims=True) + 1e-12)
    every, held, real = keys.reshape(n_units * unit, -1), tokens.ravel(), mask.ravel()

    def read(n):
        at = n * unit + jnp.arange(unit)
        near = keys[n] @ every.T  # [U, N * U]
        known = real[None] & (jnp.arange(n_units * unit)[None] < at[:, None])
        same = known & (held[None] == tokens[n][:, None])

        def loss(sharp):
            every_one = jax.nn.logsumexp(sharp * near, axis=-1, where=known)
            return every_one - jax.nn.logsumexp(sharp * near, axis=-1, where=same)

        return jax.lax.map(loss, sharpness)

    losses = jnp.swapaxes(jax.lax.map(read, jnp.arange(n_units)), 0, 1)
    return jnp.where(jnp.isnan(losses), jnp.inf, losses)
