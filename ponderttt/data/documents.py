"""Documents: the first units of each file of a source, tokenised and padded to one shape."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ponderttt.data.encoding import encode_texts
from ponderttt.data.sources import ALL, check_split, describe, open_table, shown_name
from ponderttt.errors import InputError
from ponderttt.types import Documents

_BATCH = 16


@dataclass(frozen=True)
class Corpus:
    """Documents of one split of one source, with the path and language of each.

    `record` says what the source was read from (see `open_table`).
    """

    documents: Documents
    paths: tuple[str, ...]
    languages: tuple[str, ...]
    source: str
    split: str
    record: dict

    def __len__(self) -> int:
        return len(self.paths)


class CodeDataset:
    """The texts of one split of a source, in an order shuffled by `seed`, tokenised when asked for.

    Args:
        tokenizer: one with a `bos_token_id`, as `get_tokenizer` gives.
        split: train, validation or test; or all, for what trains and tunes nothing.
        seq_length: the most tokens of an example; the rest of its file is left out.
        source: a name of `SOURCES`, or a local file or folder.
        seed: of the order.
        max_examples: None for all; a smaller number gives the beginning of a larger one.

    `dataset[i]` is the ids of example i, int32 [T]; `paths` and `languages` run beside it.

    Raises:
        InputError: an unknown source or split, a size below 1, a tokenizer without a bos token.

    >>> from ponderttt.data import get_tokenizer
    >>> dataset = CodeDataset(get_tokenizer("bytes"), "test", 8, source="uniform", max_examples=3)
    >>> len(dataset), dataset[0].shape
    (3, (8,))
    """

    def __init__(
        self,
        tokenizer: Any,
        split: str,
        seq_length: int,
        *,
        source: str | Path = "stdlib",
        seed: int = 0,
        max_examples: int | None = None,
    ):
        check_split(split, ALL)
        check_positive(seq_length=seq_length)
        if max_examples is not None:
            check_positive(max_examples=max_examples)
        check_bos(tokenizer)
        self.tokenizer, self.split, self.seq_length = tokenizer, split, seq_length
        self.source, self.seed = shown_name(source), seed
        table, self.record = open_table(source)
        self._texts = table.column("text")
        found = np.flatnonzero((table.column("split").to_numpy() == split) | (split == ALL))
        self.rows = np.random.default_rng(seed).permutation(found)[:max_examples]
        self.paths = _strings(table, "path", self.rows)
        self.languages = _strings(table, "language", self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.encode([range(len(self))[index]])[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _BATCH):
            yield from self.encode(range(start, min(start + _BATCH, len(self))))

    def encode(self, indices) -> list[np.ndarray]:
        """The ids of the examples at `indices`, tokenised together."""
        texts = [self._texts[int(self.rows[i])].as_py() for i in indices]
        languages = [self.languages[i] for i in indices]
        return encode_texts(self.tokenizer, texts, languages, self.seq_length)


def load_documents(
    source: str | Path,
    tokenizer: Any,
    *,
    split: str,
    unit: int,
    chunk: int | None = None,
    units: int,
    min_units: int = 2,
    max_documents: int | None = None,
    seed: int = 0,
) -> Corpus:
    """The first `max_documents` files with at least `min_units` full units, in shuffled order.

    Each is cut to its first `units` units of `unit` tokens; what follows its last token is padding
    (mask False, token 0). `chunk` is the base model's window, checked here to be a multiple of
    `unit`. Raises `InputError` for sizes that do not fit together, an unknown split or source, and
    a source with no document long enough.
    """
    _check_sizes(unit, chunk, units, min_units)
    if max_documents is not None:
        check_positive(max_documents=max_documents)
    texts = CodeDataset(tokenizer, split, unit * units, source=source, seed=seed)
    found, longest = _long_enough(texts, unit * min_units, max_documents)
    if not found:
        if not len(texts):
            raise no_text(texts.source, split, texts.record)
        raise InputError(
            f"the source {texts.source!r} has no {split} document of at least {min_units} units of "
            f"{unit} tokens: the longest has {longest} tokens; ask for smaller or fewer units, or "
            f"give more text ({_kept(split, texts.record)})"
        )
    tokens, mask = pad_tokens([ids for _, ids in found], unit * units)
    shape, bos = (len(found), units, unit), np.int32(tokenizer.bos_token_id)
    return Corpus(
        # NumPy arrays: documents stay on the host until they are read.
        Documents(tokens.reshape(shape), mask.reshape(shape), bos),  # type: ignore[arg-type]
        tuple(texts.paths[i] for i, _ in found),
        tuple(texts.languages[i] for i, _ in found),
        texts.source,
        split,
        texts.record,
    )


def no_text(source: str, split: str, record: dict) -> InputError:
    """What to say where a source, of which `record` is kept, has nothing in a split."""
    return InputError(f"the source {source!r} has no {split} document: {_kept(split, record)}")


def _kept(split: str, record: dict) -> str:
    """How many files each split has, why so, and what to do where one has none that will do."""
    remedy = "give it more files, or train, validation and test folders"
    if split != ALL:
        remedy += f"; what trains on nothing (train-baseline) reads every file with --split {ALL}"
    return f"files: {describe(record)}; {remedy}"


def pad_tokens(rows: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """`rows` as int32 [B, length] with zeros behind their ends, and the mask [B, length]."""
    tokens = np.zeros((len(rows), length), np.int32)
    for target, ids in zip(tokens, rows, strict=True):
        target[: len(ids)] = ids
    lengths = np.array([len(ids) for ids in rows]).reshape(-1, 1)
    return tokens, np.arange(length) < lengths


def check_positive(**sizes: int) -> None:
    """An `InputError` naming the first of `sizes` that is not a positive integer."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise InputError(f"{name} is {value!r}: expected a positive integer")


def check_bos(tokenizer: Any) -> None:
    """An `InputError` where a tokenizer has no token to start a document with."""
    if tokenizer.bos_token_id is None:
        raise InputError(
            f"the tokenizer {tokenizer.name_or_path!r} has no bos_token_id to start a document "
            "with; set tokenizer.bos_token"
        )


def _check_sizes(unit: int, chunk: int | None, units: int, min_units: int) -> None:
    check_positive(unit=unit, units=units, min_units=min_units)
    if chunk is not None:
        check_positive(chunk=chunk)
        if chunk % unit:
            raise InputError(f"unit {unit} does not divide chunk {chunk}: expected a divisor of it")
    if min_units > units:
        raise InputError(f"min_units {min_units} is over units {units}: expected at most as many")


def _long_enough(
    texts: CodeDataset, min_tokens: int, wanted: int | None
) -> tuple[list[tuple[int, np.ndarray]], int]:
    """(index, ids) of the first `wanted` texts of at least `min_tokens`, tokenising no further.

    And the tokens of the longest that was seen.
    """
    found: list[tuple[int, np.ndarray]] = []
    longest = 0
    for start in range(0, len(texts), _BATCH):
        batch = range(start, min(start + _BATCH, len(texts)))
        for index, ids in zip(batch, texts.encode(batch), strict=True):
            longest = max(longest, len(ids))
            if len(ids) >= min_tokens:
                found.append((index, ids))
        if wanted is not None and len(found) >= wanted:
            break
    return found[:wanted], longest


def _strings(table, column: str, rows: np.ndarray) -> list[str]:
    return table.column(column).to_numpy()[rows].tolist()
