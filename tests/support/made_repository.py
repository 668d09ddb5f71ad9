"""A repository made up here: files of drawn tokens, the last unit of each filled with padding."""

from collections.abc import Sequence

import numpy as np

from ponderttt.data.repositories import FileSpan
from ponderttt.prepare.repositories import Repository
from ponderttt.types import Documents

LENGTHS = (10, 3, 16, 6)


def made_repository(
    lengths: Sequence[int] = LENGTHS,
    *,
    unit: int = 4,
    spare: int = 0,
    symbols: int = 257,
    name: str = "made",
    seed: int = 0,
) -> Repository:
    """Files of so many tokens, and behind the last of them `spare` units of padding."""
    counts = [-(-length // unit) for length in lengths]
    tokens = np.zeros((1, sum(counts) + spare, unit), np.int32)
    mask, starts = np.zeros(tokens.shape, bool), np.zeros(tokens.shape[:2], bool)
    draw, files, first = np.random.default_rng(seed), [], 0
    for i, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        files.append(FileSpan(f"{name}/{i}.py", first, count, length))
        tokens[0, first:].reshape(-1)[:length] = draw.integers(0, symbols, length)
        mask[0, first:].reshape(-1)[:length] = True
        starts[0, first] = True
        first += count
    document = Documents(tokens, mask, np.int32(256), starts)
    return Repository("made here", name, document, tuple(files))
