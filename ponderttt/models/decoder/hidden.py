"""The frozen base's states, computed once per document and kept in the cache."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ponderttt.cache import Arrays, cached, code_fingerprint, fingerprint
from ponderttt.errors import InputError
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.types import Documents

_TOKENS_PER_CALL = 1024
"""A forward call reads about so many tokens: enough to keep the matrix products busy."""


class States(NamedTuple):
    """What the base knows of one document, memory-mapped."""

    hidden: Float[np.ndarray, "N U D"]
    attention: Float[np.ndarray, "N U 4"]
    """The last block's, as `attention_summary` has it."""


_SUMMARY = 4


class Encoded(NamedTuple):
    """Documents with the cached states of each: hidden [N, U, D], attention [N, U, 4]."""

    documents: Documents
    hidden: Any
    attention: Any = None

    def batch(self, index: np.ndarray) -> tuple[Documents, jax.Array]:
        """The documents at `index` with their hidden states [B, N, U, D]."""
        return self.documents.select(index), jnp.asarray(np.stack([self.hidden[i] for i in index]))


def hidden_states(
    lm: TransformerLM, documents: Documents, *, chunk: int, suffix_blocks: int = 0
) -> Float[np.ndarray, "B N U D"]:
    """What the head reads (or, with `suffix_blocks` > 0, what enters those last blocks).

    `documents.inputs` is read in chunks of `chunk` tokens that do not see each other, positions
    counted from 0 in each; so the state at (n, u) depends on tokens before (n, u) only. Chunks
    that are all padding are not run, and their states are 0. A `chunk` that is not a multiple of
    the unit is an `InputError`.
    """
    _check_chunk(documents, chunk)

    def forward(tokens):
        if suffix_blocks:
            return lm.prefix_states(tokens, suffix_blocks=suffix_blocks)
        return lm.hidden_states(tokens)

    return np.stack([_read(d, chunk, lm.config.width, forward) for d in _each(documents)])


def cached_states(lm: TransformerLM, documents: Documents, *, chunk: int) -> list[States]:
    """`hidden_states` and the attention beside them, one file per document, computed if absent.

    A damaged file is an `InputError`. A killed run goes on at the document it was at.
    """
    _check_chunk(documents, chunk)
    width = lm.config.width + _SUMMARY

    def forward(tokens):
        entering = lm.prefix_states(tokens, suffix_blocks=1)
        last = lm.suffix_states(entering, suffix_blocks=1)
        return np.concatenate([last, lm.last_attention(entering)], axis=-1)

    states = []
    for document in _each(documents):

        def compute(document=document) -> Arrays:
            return {"states": _read(document, chunk, width, forward)}

        columns = cached("hidden", _key(lm, document, chunk), compute, mapped=True)["states"]
        states.append(States(columns[..., :-_SUMMARY], columns[..., -_SUMMARY:]))
    return states


def _check_chunk(documents: Documents, chunk: int) -> None:
    unit = documents.tokens.shape[-1]
    if chunk < 1 or chunk % unit:
        raise InputError(f"unit {unit} does not divide chunk {chunk}: expected a multiple of it")


def _each(documents: Documents) -> list[Documents]:
    """The documents one by one, each still with its axis B."""
    return [documents.select(slice(i, i + 1)) for i in range(len(documents.tokens))]


def _read(
    document: Documents,
    chunk: int,
    width: int,
    forward: Callable[[jnp.ndarray], jnp.ndarray | np.ndarray],
) -> Float[np.ndarray, "N U width"]:
    """`forward` of one document's chunks: every call has the same shape, [rows, chunk]."""
    _, n, u = document.tokens.shape
    rows = min(max(1, _TOKENS_PER_CALL // chunk), -(-n * u // chunk))
    blocks = -(-n * u // (rows * chunk)) * rows
    tokens, mask = (
        np.pad(np.asarray(x).reshape(-1), (0, blocks * chunk - n * u)).reshape(-1, rows, chunk)
        for x in (document.inputs, document.mask)
    )
    states = [
        np.asarray(forward(jnp.asarray(x))) if read.any() else None
        for x, read in zip(tokens, mask, strict=True)
    ]
    empty = np.zeros((rows, chunk, width), np.float32)
    flat = np.concatenate([empty if s is None else s for s in states]).reshape(blocks * chunk, -1)
    return flat[: n * u].reshape(n, u, -1)


def _key(lm: TransformerLM, document: Documents, chunk: int) -> str:
    """What the states depend on, hashed."""
    tokens, mask = np.asarray(document.tokens, np.int32), np.asarray(document.mask, bool)
    code, start = code_fingerprint(__name__), int(document.bos)
    return fingerprint(code, lm.fingerprint, chunk, start, tokens, mask)
