"""The frozen base's states, computed once per document and kept in the cache."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ponderttt.cache import Arrays, cached, code_fingerprint, fingerprint
from ponderttt.models.attention import rotary_angles
from ponderttt.models.decoder.decoder import Context
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.types import Documents

_SUMMARY = 4


class States(NamedTuple):
    """What the base knows of one document, memory-mapped."""

    hidden: Float[np.ndarray, "N U D"]
    attention: Float[np.ndarray, "N U 4"]
    """The last block's, as `windowed_summary` has it."""


class Encoded(NamedTuple):
    """Documents with the cached states of each: hidden [N, U, D], attention [N, U, 4]."""

    documents: Documents
    hidden: Any
    attention: Any = None

    def batch(self, index: np.ndarray) -> tuple[Documents, jax.Array]:
        """The documents at `index` with their hidden states [B, N, U, D]."""
        return self.documents.select(index), jnp.asarray(np.stack([self.hidden[i] for i in index]))


def hidden_states(
    lm: TransformerLM, documents: Documents, *, window: Window, suffix_blocks: int = 0
) -> Float[np.ndarray, "B N U D"]:
    """What the head reads (or, with `suffix_blocks` > 0, what enters those last blocks).

    A file's units are read one after another, each behind the keys and values of up to `window`
    tokens; so the state at (n, u) depends on tokens before (n, u) only, and memory is linear in the
    length. Models with learned positions read a file that is longer than an overlapping window
    anew for each unit, at positions that end with it.
    """
    lm.check_suffix(suffix_blocks)
    states = [_read(lm, d, window, suffix_blocks, False) for d in _each(documents)]
    return np.stack(states)


def cached_states(
    lm: TransformerLM,
    documents: Documents,
    *,
    window: Window,
    suffix_blocks: int = 0,
    summarise: bool = True,
) -> list[States]:
    """`hidden_states` and the attention beside them, one file per document, computed if absent.

    The attention is there (`summarise`) for whole states only. A damaged file is an `InputError`.
    A killed run goes on at the document it was at.
    """
    lm.check_suffix(suffix_blocks)
    summarise = summarise and not suffix_blocks
    width = lm.config.width
    states = []
    for document in _each(documents):

        def compute(document=document) -> Arrays:
            return {"states": _read(lm, document, window, suffix_blocks, summarise)}

        key = fingerprint(
            code_fingerprint(__name__), lm.fingerprint, repr(window), suffix_blocks, summarise,
            int(document.bos), np.asarray(document.tokens, np.int32),
            np.asarray(document.mask, bool), document.places,
        )  # fmt: skip
        columns = cached("hidden", key, compute, mapped=True)["states"]
        states.append(States(columns[..., :width], columns[..., width:]))
    return states


def _each(documents: Documents) -> list[Documents]:
    """The documents one by one, each still with its axis B."""
    return [documents.select(slice(i, i + 1)) for i in range(len(documents.tokens))]


def _read(
    lm: TransformerLM, document: Documents, window: Window, suffix_blocks: int, summarise: bool
) -> Float[np.ndarray, "N U width"]:
    """The states of one document, and behind them the summary of attention."""
    unit = document.tokens.shape[-1]
    window.check(lm.config, unit)
    tokens, places = np.asarray(document.inputs[0]), window.places(document)[0]
    lm.check_tokens(tokens)
    read = np.any(np.asarray(document.mask[0]), axis=-1)
    states = np.asarray(
        _stream(
            lm, tokens, np.where(read, places, 0),
            window=window, suffix_blocks=suffix_blocks, summarise=summarise,
        )
    )  # fmt: skip
    beyond = (places + 1) * unit > window.tokens
    if not lm.config.rotary_dim and (beyond & read).any():
        states = np.array(states)
        for n in np.flatnonzero(beyond & read):
            states[n] = _ending(lm, tokens, int(n), window, suffix_blocks, summarise)
    return np.where(read.reshape(-1, 1, 1), states, 0)


def _ending(lm, tokens, n: int, window: Window, suffix_blocks: int, summarise: bool):
    """The states of unit n, read in one window that ends with it."""
    unit = tokens.shape[-1]
    units = window.tokens // unit
    whole = tokens[n + 1 - units : n + 1]
    return np.asarray(
        _stream(
            lm, whole, np.arange(units),
            window=window, suffix_blocks=suffix_blocks, summarise=summarise,
        )
    )[-1]  # fmt: skip


@partial(jax.jit, static_argnames=("window", "suffix_blocks", "summarise"))
def _stream(
    lm: TransformerLM,
    tokens: Int[Array | np.ndarray, "N U"],
    places: Int[Array | np.ndarray, "N"],
    *,
    window: Window,
    suffix_blocks: int,
    summarise: bool,
) -> Float[Array, "N U width"]:
    """Unit after unit behind what was read before it in its context."""
    decoder, layers, unit = lm.decoder, lm.config.layers, tokens.shape[1]
    blocks = layers - suffix_blocks
    at = contexts(lm, places, unit, window)

    def read(pasts, n):
        context, first = at(n)
        h = decoder.embed(tokens[n][None], first)
        h, lower = decoder.read_unit(h, 0, blocks - summarise, context, pasts[0])
        if not summarise:
            out = h if suffix_blocks else decoder.final_norm(h)
            return [lower], out[0]
        summary = decoder.last_attention(h, context, jax.tree.map(lambda x: x[0], pasts[1]))
        h, last = decoder.read_unit(h, blocks - 1, blocks, context, pasts[1])
        return [lower, last], jnp.concatenate([decoder.final_norm(h), summary], axis=-1)[0]

    parts = [blocks - 1, 1] if summarise else [blocks]
    pasts = [lm.no_past(part, window, unit) for part in parts]
    return jax.lax.scan(read, pasts, jnp.arange(tokens.shape[0]))[1]


def contexts(lm: TransformerLM, places: Int[Array | np.ndarray, "N"], unit: int, window: Window):
    """The context of unit n and its first position, as a function of n."""
    places = jnp.asarray(places)
    starts = rotary_angles(lm.config, places.shape[0], apart=unit)
    within = rotary_angles(lm.config, unit)

    def at(n) -> tuple[Context, Int[Array, ""]]:
        first = places[n] * unit
        turned = None
        if starts is not None and within is not None:
            turned = starts[places[n]][None] + within
        return Context(turned, jnp.minimum(first, window.tokens), window.tokens), first

    return at
