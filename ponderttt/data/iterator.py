"""Batches of token ids for training: deterministic, resumable, sharded by process."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from ponderttt.data.documents import CodeDataset, check_positive, no_text, pad_tokens
from ponderttt.errors import InputError

Batch = dict[str, np.ndarray]


class DataIterator:
    """One pass over a `CodeDataset` in batches, each process reading its own rows of every batch.

    A batch holds, for the B documents of this process (T tokens each, C to a chunk):
    `labels` Int[B, T], the tokens to predict; `input_ids` Int[B, T], the token before each (the
    document's start is the tokenizer's bos); `attention_mask` Bool[B, T], False on padding;
    `chunks` Int[B, N, C] and `chunk_mask` Bool[B, N, C], the labels and their mask by chunk. The
    last batch is filled up with rows that are all padding, so that every batch has one shape and
    every process the same number of them.
    """

    def __init__(self, dataset: CodeDataset, batch_size: int, chunk_size: int, shard: range):
        self.dataset, self.batch_size, self.chunk_size = dataset, batch_size, chunk_size
        self.shard = shard
        self.next_batch = 0

    def __len__(self) -> int:
        """Batches in a whole pass."""
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> "DataIterator":
        return self

    def __next__(self) -> Batch:
        if self.next_batch >= len(self):
            raise StopIteration
        first = self.next_batch * self.batch_size
        present = [first + row for row in self.shard if first + row < len(self.dataset)]
        rows = self.dataset.encode(present)
        rows += [np.zeros(0, np.int32)] * (len(self.shard) - len(rows))
        self.next_batch += 1
        return self._batch(rows)

    def _batch(self, rows: list[np.ndarray]) -> Batch:
        labels, mask = pad_tokens(rows, self.dataset.seq_length)
        bos = np.full((len(rows), 1), self.dataset.tokenizer.bos_token_id, np.int32)
        by_chunk = (len(rows), -1, self.chunk_size)
        return {
            "input_ids": np.concatenate([bos, labels[:, :-1]], axis=1),
            "labels": labels,
            "attention_mask": mask,
            "chunks": labels.reshape(by_chunk),
            "chunk_mask": mask.reshape(by_chunk),
        }

    def state_dict(self) -> dict[str, Any]:
        """Where the pass stands, and of what it is a pass: JSON-compatible."""
        return {"next_batch": self.next_batch, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; a state of another pass is an `InputError`."""
        expected = self._identity()
        differing = [name for name, value in expected.items() if state.get(name) != value]
        if differing or not 0 <= state.get("next_batch", -1) <= len(self):
            raise InputError(
                "the data iterator's saved state is of another pass: it differs in "
                f"{', '.join(differing) or 'next_batch'}; resume with the settings it was saved "
                "with"
            )
        self.next_batch = state["next_batch"]

    def _identity(self) -> dict[str, Any]:
        dataset = self.dataset
        return {
            "source": dataset.source,
            "source_sha256": dataset.record["sha256"],
            "split": dataset.split,
            "seed": dataset.seed,
            "examples": len(dataset),
            "batch_size": self.batch_size,
            "seq_length": dataset.seq_length,
            "chunk_size": self.chunk_size,
        }


def create_data_iterator(
    tokenizer: Any,
    split: str,
    batch_size: int,
    seq_length: int,
    chunk_size: int,
    max_examples: int | None = None,
    *,
    source: str | Path = "stdlib",
    seed: int = 0,
    process_index: int | None = None,
    process_count: int | None = None,
) -> DataIterator:
    """Batches of the first files of a source, in an order shuffled by `seed`.

    Args:
        tokenizer: one with a `bos_token_id`, as `get_tokenizer` gives.
        split: train, validation or test; or all.
        batch_size: documents in a batch, of all processes together.
        seq_length: tokens of a document, the first of one file: documents are never joined.
        chunk_size: tokens of a chunk; it divides `seq_length`.
        max_examples: how many files; None for all.
        source: a name of `SOURCES`, or a local file or folder.
        seed: of the order.
        process_index: which rows of each batch are read here; None asks `jax.distributed`.
        process_count: among how many processes a batch is divided; None asks `jax.distributed`.

    Returns:
        One pass (`DataIterator` says what is in a batch), with B = batch_size / process_count rows:
        those of all processes side by side are the batch that a single one would read.

    Raises:
        InputError: sizes that do not fit together, an unknown source or split, no file.

    >>> from ponderttt.data import get_tokenizer
    >>> batches = create_data_iterator(
    ...     get_tokenizer("bytes"), "train", batch_size=2, seq_length=8, chunk_size=4,
    ...     max_examples=4, source="uniform",
    ... )
    >>> batch = next(batches)
    >>> len(batches), batch["input_ids"].shape, batch["chunks"].shape
    (2, (2, 8), (2, 2, 4))
    """
    check_positive(batch_size=batch_size, seq_length=seq_length, chunk_size=chunk_size)
    if seq_length % chunk_size:
        raise InputError(
            f"chunk_size {chunk_size} does not divide seq_length {seq_length}: "
            "expected a divisor of it"
        )
    shard = _shard(batch_size, process_index, process_count)
    dataset = CodeDataset(
        tokenizer, split, seq_length, source=source, seed=seed, max_examples=max_examples
    )
    if not len(dataset):
        raise no_text(dataset.source, dataset.split, dataset.record)
    return DataIterator(dataset, batch_size, chunk_size, shard)


def _shard(batch_size: int, process_index: int | None, process_count: int | None) -> range:
    """The rows of a batch that this process reads."""
    count = jax.process_count() if process_count is None else process_count
    index = jax.process_index() if process_index is None else process_index
    check_positive(process_count=count)
    if not 0 <= index < count:
        raise InputError(f"process_index is {index}: expected 0 to {count - 1}")
    if batch_size % count:
        raise InputError(
            f"batch_size {batch_size} does not divide among {count} processes: "
            "expected a multiple of their number"
        )
    rows = batch_size // count
    return range(index * rows, (index + 1) * rows)
