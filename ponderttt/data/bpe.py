"""A byte-level BPE of any size, trained once on the texts it is given and kept in the cache."""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tokenizers

from ponderttt.cache import Arrays, cached, code_fingerprint, fingerprint
from ponderttt.data.tokenizer import START, byte_level, fast_tokenizer
from ponderttt.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SMALLEST = 257
"""The bytes, and START."""


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> "PreTrainedTokenizerFast":
    """A tokenizer of exactly `vocab_size` tokens: the 256 bytes, merges learned on `texts`, START.

    No text is unknown to it. The same texts and size give the same tokenizer, which is trained
    once and then read from the cache. An `InputError`: a size below `SMALLEST`, texts with too few
    pairs to merge, a damaged cache file.
    """
    check_vocabulary(vocab_size)
    name = f"bpe-{vocab_size}-{_digest(texts)}"

    def compute() -> Arrays:
        content = _train(texts, vocab_size).to_str().encode()
        return {"json": np.frombuffer(content, np.uint8)}

    key = fingerprint(code_fingerprint(__name__), name)
    content = cached("tokenizers", key, compute)["json"].tobytes()
    tokenizer = fast_tokenizer(tokenizers.Tokenizer.from_str(content.decode()))
    tokenizer.name_or_path = f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    return tokenizer


def check_vocabulary(vocab_size: int) -> None:
    """An `InputError` unless `vocab_size` is a size that a byte-level BPE can have."""
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size < SMALLEST:
        raise InputError(
            f"vocab_size is {vocab_size!r}: expected at least {SMALLEST} (the bytes and {START})"
        )


def _train(texts: Sequence[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Merges until all but START, which comes last as in GPT-2's vocabulary, is full."""
    tokenizer = byte_level({}, [], [], single_digits=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=2,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([tokenizers.AddedToken(START, special=True)])
    if (size := tokenizer.get_vocab_size()) != vocab_size:
        raise InputError(
            f"the training text has pairs for {size} tokens, not for {vocab_size}; "
            f"ask for a vocab_size of at most {size} or name a tokenizer (gpt2), or give more text"
        )
    return tokenizer


def _digest(texts: Sequence[str]) -> str:
    """Of the texts, where each ends, and the library that merges them."""
    digest = hashlib.sha256(json.dumps([tokenizers.__version__, *map(len, texts)]).encode())
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()[:16]
