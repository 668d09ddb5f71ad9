"""Windows of language, and the one way in which they become batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from ponderttt.data.documents import check_positive
from ponderttt.types import IGNORED


@dataclass(frozen=True, eq=False)
class Windows:
    """B windows of T tokens, each a document of its own: nothing is carried into the next.

    `tokens` are the targets; `mask` is False on padding, which is only ever at a window's end and
    never scored. `titles` names the text that each is from: the clusters for statistics.
    """

    tokens: Int[np.ndarray, "B T"]
    mask: Bool[np.ndarray, "B T"]
    bos: int
    titles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.titles)

    @property
    def inputs(self) -> Int[np.ndarray, "B T"]:
        """The token before each token, `bos` before a window's first.

        >>> tokens = np.array([[5, 6, 7], [8, 9, 0]], np.int32)
        >>> Windows(tokens, tokens > 0, 1, ("a", "b")).inputs.tolist()
        [[1, 5, 6], [1, 8, 9]]
        """
        first = np.full((len(self), 1), self.bos, self.tokens.dtype)
        return np.concatenate([first, self.tokens[:, :-1]], axis=1)

    @property
    def labels(self) -> Int[np.ndarray, "B T"]:
        """The token that follows each input, `IGNORED` on padding."""
        return np.where(self.mask, self.tokens, IGNORED).astype(np.int32)


def epoch_order(count: int, seed: int, epoch: int) -> Int[np.ndarray, "count"]:
    """The order of `count` windows in a pass over them: each epoch of each seed has its own."""
    return np.random.default_rng((seed, epoch)).permutation(count)


class WindowLoader:
    """Batches of windows, each a dict of `input_ids` and `labels`, int32 [B, T].

    `labels[b, t]` is the token that follows `input_ids[b, t]`, and -100 on padding; a window's
    first input is bos. The last batch is filled up with rows that are all padding. With a
    `shuffle_seed` each pass over the loader has the order of its own `epoch`, which is counted
    here and may be set to resume; otherwise the order is that of the windows.
    """

    def __init__(self, windows: Windows, batch_size: int, *, shuffle_seed: int | None = None):
        check_positive(batch_size=batch_size)
        self.windows, self.batch_size, self.shuffle_seed = windows, batch_size, shuffle_seed
        self.epoch = 0
        self._inputs, self._labels = windows.inputs, windows.labels

    def __len__(self) -> int:
        """Batches in a whole pass."""
        return -(-len(self.windows) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Int[np.ndarray, "B T"]]]:
        order = np.arange(len(self.windows))
        if self.shuffle_seed is not None:
            order = epoch_order(len(order), self.shuffle_seed, self.epoch)
        self.epoch += 1
        starts = range(0, len(order), self.batch_size)
        return (self._batch(order[start : start + self.batch_size]) for start in starts)

    def _batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        shape = (self.batch_size, self._inputs.shape[1])
        inputs, labels = np.zeros(shape, np.int32), np.full(shape, IGNORED, np.int32)
        inputs[: len(rows)], labels[: len(rows)] = self._inputs[rows], self._labels[rows]
        return {"input_ids": inputs, "labels": labels}


def whole_pass(
    windows: Windows, batch_size: int
) -> tuple[Int[np.ndarray, "batches B T"], Int[np.ndarray, "batches B T"]]:
    """Inputs and labels of one pass in the windows' order, batch after batch, stacked."""
    batches = list(WindowLoader(windows, batch_size))
    return np.stack([b["input_ids"] for b in batches]), np.stack([b["labels"] for b in batches])
