"""Chunks of text under one fixed action, one after the other."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from ponderttt.data import CodeDataset
from ponderttt.errors import InputError
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import UniformPolicy
from ponderttt.prepare.corpora import load_texts
from ponderttt.prepare.reader import Reader
from ponderttt.training.finite import check_finite


class Plan(NamedTuple):
    """How many chunks are read, and how many of a document."""

    chunks: int
    per_document: int


def plan_chunks(
    lm: TransformerLM, source: str, *, split: str, chunks: int, size: int, per_document: int,
    seed: int,
) -> Plan:  # fmt: skip
    """What there is of the `chunks` asked for, up to `per_document` of each document of the split.

    Where too few documents have so many, all that are read give fewer: so many that the most chunks
    are read. A source without one whole chunk is an `InputError`.
    """
    most = min(chunks, per_document)
    texts = CodeDataset(lm.load_tokenizer(), split, size * most, source=source, seed=seed)
    longest, whole, held = 0, 0, list[int]()
    for ids in texts:
        longest = max(longest, len(ids))
        held.append(len(ids) // size)
        whole += held[-1] == most
        if whole * most >= chunks:
            return Plan(chunks, most)
    if not any(held):
        raise InputError(
            f"the longest of the {len(texts)} {split} documents of {texts.source!r} has {longest} "
            f"tokens, and a chunk {size}: lower chunk_size, or give longer files"
        )
    together = partial(_together, np.asarray(held), chunks)
    units = max(range(1, most + 1), key=lambda each: (together(each), each))
    return Plan(together(units), units)


def _together(held: np.ndarray, chunks: int, each: int) -> int:
    """How many of the chunks that are asked for there are in documents that have `each`."""
    return min(chunks, int((held >= each).sum()) * each)


def read_chunks(
    lm: TransformerLM, source: str, action: str, *, chunks: int, size: int, per_document: int,
    adapter: Adapter, seed: int, split: str = "test", of: str = "the loss",
) -> Iterator[tuple[float, float]]:  # fmt: skip
    """Loss (nats a token, scored before the chunk is learned from) and cost of `chunks` chunks.

    Of documents of the split with `per_document` of them each; fast weights start afresh with each.
    Nothing is trained or tuned on any.
    A loss that is not finite is a `NotFinite` with its document and unit; `of` says what it is.
    """
    units = min(chunks, per_document)
    count = -(-chunks // units)
    texts = load_texts(lm, (source,), split=split, unit=size, units=units, count=count, seed=seed)
    if len(texts) < count:
        raise InputError(
            f"{texts.sources[0]} has {len(texts)} {split} documents of {units} chunks of {size} "
            f"tokens: {chunks} chunks need {count}; lower num_chunks or chunk_size"
        )
    reader = Reader(lm, "switch", seed)
    for i in range(count):
        episode = reader.read_raw(adapter, UniformPolicy(action), texts.corpus, i)
        for n in range(min(units, chunks - i * units)):
            check_finite(
                [[episode["nll"][n]]], ("document", "unit"), of=of,
                names={"document": [texts.paths[i]], "unit": [n + 1]}, remedy="lower --rate",
            )  # fmt: skip
            yield float(episode["nll"][n]), float(episode["cost"][n])
