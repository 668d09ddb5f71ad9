"""Texts to token ids: no more of each text is tokenised than will be read."""

from collections.abc import Sequence
from typing import Any

import numpy as np

_CHARACTERS_PER_TOKEN = 8
"""More than nearly all text has, so the first cut of a long text usually holds enough tokens."""

_MARGIN = 64
"""Tokens near a cut may differ from those of the whole text: so many are never used."""


def encode_texts(
    tokenizer: Any, texts: Sequence[str], languages: Sequence[str], limit: int
) -> list[np.ndarray]:
    """The first `limit` token ids (int32) of each text, without special tokens.

    A text of the language "uniform" is numbers below 2**32, each scaled to the vocabulary, so
    that its tokens are uniform over any vocabulary.
    """
    if "uniform" in languages:
        return [_scale(text, len(tokenizer), limit) for text in texts]
    room = _CHARACTERS_PER_TOKEN * (limit + _MARGIN)
    encoded = _encode(tokenizer, [text[:room] for text in texts])
    for index, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
        if len(text) > room and len(ids) < limit + _MARGIN:
            encoded[index] = _encode(tokenizer, [text])[0]
    return [np.asarray(ids[:limit], np.int32) for ids in encoded]


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]


def _scale(text: str, vocabulary: int, limit: int) -> np.ndarray:
    numbers = np.array(text.split(maxsplit=limit)[:limit], dtype=np.uint64)
    return (numbers * np.uint64(vocabulary) >> np.uint64(32)).astype(np.int32)
