"""Documents made of the files of one repository, file by file, each beginning a unit of its own."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute
import xxhash

from ponderttt.data.documents import check_bos, check_positive
from ponderttt.data.encoding import encode_texts
from ponderttt.data.sources import (
    ALL,
    SPLITS,
    check_split,
    describe,
    find_source,
    open_table,
    shown_name,
    split_of,
)
from ponderttt.errors import InputError
from ponderttt.types import Documents

SHARES = (30, 10, 60)
"""Percentages of repositories that train, validate and test: there are few, and tests need most."""

ORDERS = ("path", "shuffled")
"""The orders of the files in a repository: that of their paths, or one drawn by a seed."""

_ROOTS = {"stdlib": "stdlib", "go": "go", "zig": "std"}
"""Sources whose folders are their repositories, and what that of the files in no folder is."""

_ARTICLES = ("wikipedia", "leads", "uniform")
"""Sources whose every text is a repository, with the split that the source gives it."""

_BATCH = 64


class FileSpan(NamedTuple):
    """Where a file of a repository is: `units` units from `first_unit` on, that hold `tokens`."""

    path: str
    first_unit: int
    units: int
    tokens: int


@dataclass(frozen=True)
class Repositories:
    """Documents of several files, with the name and the files of each, in the order they are read.

    `record` says what the source was read from (see `open_table`): how many repositories each split
    has, whatever their sizes, and which files were dropped.
    """

    documents: Documents
    names: tuple[str, ...]
    files: tuple[tuple[FileSpan, ...], ...]
    source: str
    split: str
    record: dict

    def __len__(self) -> int:
        return len(self.names)

    def select(self, indices) -> "Repositories":
        """The repositories at `indices` (a slice or integers), in that order."""
        chosen = np.arange(len(self))[indices]
        return replace(
            self,
            documents=self.documents.select(chosen),
            names=tuple(self.names[i] for i in chosen),
            files=tuple(self.files[i] for i in chosen),
        )

    def reordered(self, order: str, seed: int = 0) -> "Repositories":
        """The same files, each with the units that it has, in one of `ORDERS`.

        What `seed` draws for a repository depends on its name and its files alone.
        """
        _check_order(order)
        units = np.tile(np.arange(self.documents.tokens.shape[1]), (len(self), 1))
        files = []
        for row, (name, spans) in enumerate(zip(self.names, self.files, strict=True)):
            placed = sorted(spans, key=lambda span: span.path)
            if order == "shuffled":
                drawn = np.random.default_rng([seed, xxhash.xxh64_intdigest(name.encode())])
                placed = [placed[i] for i in drawn.permutation(len(placed))]
            taken = np.concatenate([span.first_unit + np.arange(span.units) for span in placed])
            units[row, : len(taken)] = taken
            files.append(_placed(placed))
        tokens, mask, bos, starts = map(np.asarray, self.documents)
        rows = np.arange(len(self))[:, None]
        moved = Documents(tokens[rows, units], mask[rows, units], bos, starts[rows, units])  # type: ignore[arg-type]
        return replace(self, documents=moved, files=tuple(files))


def load_repositories(
    source: str | Path,
    tokenizer: Any,
    *,
    split: str,
    unit: int,
    units: int,
    min_units: int | None = None,
    min_files: int = 1,
    max_repositories: int | None = None,
    order: str = "path",
    seed: int = 0,
) -> Repositories:
    """The first `max_repositories` repositories of a source, in an order shuffled by `seed`.

    A repository's files follow each other in the order of their paths until its `units` units of
    `unit` tokens are full, where the last file is cut; each begins a unit, and padding (mask False,
    token 0) fills its last one. `order` is then that of these files (see `ORDERS`): whatever it is,
    the tokens are the same. A document has at least `min_units` units (None: all) and `min_files`
    files; what follows its last file is padding that starts no file.

    A repository is a package, a folder of Go, Zig or the standard library, or an article, and its
    split the hash of its name's; a user's own file or folder is one repository, of every split.

    Raises `InputError` for sizes that do not fit together, an unknown source, split or order, and a
    source with no repository that is large enough.
    """
    min_units = units if min_units is None else min_units
    _check_sizes(unit, units, min_units, min_files, max_repositories)
    check_split(split, ALL)
    _check_order(order)
    check_bos(tokenizer)
    table, record = open_table(source, whole=True)
    groups = _group(table, source)
    # Split "by the hash of each name", as the source's files are, but by the repositories' names.
    record["kept"] = {s: sum(s in group.splits for group in groups.values()) for s in SPLITS}
    names = sorted(name for name, group in groups.items() if split in (ALL, *group.splits))
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    texts = _Texts(table, tokenizer, unit, units)
    found = dict[str, list[_Encoded]]()
    for name in shuffled:
        if len(found) == max_repositories:
            break
        if texts.most_units(groups[name].rows) < min_units or len(groups[name].rows) < min_files:
            continue
        files = texts.encode(groups[name].rows)
        if sum(file.units for file in files) >= min_units and len(files) >= min_files:
            found[name] = files
    if not found:
        sizes = f"at least {min_units} units of {unit} tokens and {min_files} file(s)"
        wanted = f"repository of {sizes}" if split == ALL else f"{split} repository of {sizes}"
        rows = {name: groups[name].rows for name in names}
        raise _none_found(shown_name(source), wanted, texts, rows, record)
    documents, spans = _lay_out(list(found.values()), unit, units, tokenizer.bos_token_id)
    loaded = Repositories(documents, tuple(found), spans, shown_name(source), split, record)
    return loaded.reordered(order, seed)


class _Group(NamedTuple):
    """The rows of a repository's files, in the order of their paths, and the splits it is in."""

    rows: list[int]
    splits: tuple[str, ...]


def _group(table: pa.Table, source: str | Path) -> dict[str, _Group]:
    """The repositories of a source by their names."""
    name, found = find_source(source)
    paths, splits = table.column("path").to_pylist(), table.column("split").to_pylist()
    rows = sorted(range(len(paths)), key=paths.__getitem__)
    if found.own:
        return {name: _Group(rows, SPLITS)}
    groups: dict[str, _Group] = {}
    for row in rows:
        repository = repository_of(name, paths[row])
        given = splits[row] if name in _ARTICLES else split_of(repository, SHARES)
        groups.setdefault(repository, _Group([], (given,))).rows.append(row)
    return groups


def repository_of(source: str, path: str) -> str:
    """The name of the repository of a named source that the file at `path` belongs to.

    >>> repository_of("packages", "jax/numpy/fft.py"), repository_of("zig", "mem.zig")
    ('jax', 'std')
    """
    if source in _ARTICLES:
        return path
    if source in _ROOTS:
        return path.rpartition("/")[0] or _ROOTS[source]
    return "/".join(path.split("/")[: 2 if source == "the-stack" else 1])


class _Encoded(NamedTuple):
    path: str
    ids: np.ndarray
    units: int


class _Texts:
    """The texts of a source, tokenised file by file, and no further than `units` units."""

    def __init__(self, table: pa.Table, tokenizer: Any, unit: int, units: int):
        self._table, self._tokenizer, self._unit, self._units = table, tokenizer, unit, units
        bytes_of = table.column("text").cast(pa.binary())
        # No file has more tokens than bytes, or not by much.
        self._most = pa.compute.binary_length(bytes_of).to_numpy() // unit + 1

    def most_units(self, rows: list[int]) -> int:
        """No fewer than the files at `rows` have."""
        return int(self._most[rows].sum())

    def encode(self, rows: list[int]) -> list[_Encoded]:
        """The ids of the files at `rows`, the last one cut where the units are full."""
        files, left, position = list[_Encoded](), self._units, 0
        while left and position < len(rows):
            # As many of the next files as are sure to fit, so that none is tokenised in vain.
            most = np.cumsum(self._most[rows[position : position + _BATCH]])
            batch = max(1, int(np.searchsorted(most, left, side="right")))
            part = self._table.take(rows[position : position + batch]).to_pydict()
            limit = left * self._unit
            encoded = encode_texts(self._tokenizer, part["text"], part["language"], limit)
            for path, ids in zip(part["path"], encoded, strict=True):
                if len(ids := ids[: left * self._unit]):
                    files.append(_Encoded(path, ids, -(-len(ids) // self._unit)))
                    left -= files[-1].units
            position += batch
        return files


def _lay_out(
    repositories: list[list[_Encoded]], unit: int, units: int, bos: int
) -> tuple[Documents, tuple[tuple[FileSpan, ...], ...]]:
    """The documents of the files of each repository, and where each file is in them."""
    tokens = np.zeros((len(repositories), units, unit), np.int32)
    mask, starts = np.zeros(tokens.shape, bool), np.zeros(tokens.shape[:2], bool)
    spans = []
    for row, files in enumerate(repositories):
        spans.append(_placed([FileSpan(path, 0, n, len(ids)) for path, ids, n in files]))
        for span, file in zip(spans[-1], files, strict=True):
            starts[row, span.first_unit] = True
            tokens[row, span.first_unit :].reshape(-1)[: span.tokens] = file.ids
            mask[row, span.first_unit :].reshape(-1)[: span.tokens] = True
    # NumPy arrays: documents stay on the host until they are read.
    return Documents(tokens, mask, np.int32(bos), starts), tuple(spans)  # type: ignore[arg-type]


def _placed(spans: list[FileSpan]) -> tuple[FileSpan, ...]:
    """The files one after another."""
    ends = np.cumsum([span.units for span in spans]).tolist()
    return tuple(
        span._replace(first_unit=end - span.units) for span, end in zip(spans, ends, strict=True)
    )


def _none_found(
    source: str, wanted: str, texts: _Texts, repositories: dict[str, list[int]], record: dict
) -> InputError:
    """What to say where none of the `repositories` (name -> rows) is as large as is `wanted`."""
    kept = f"repositories: {describe(record)}"
    sizes = []
    for name, rows in repositories.items():
        files = texts.encode(rows)
        sizes.append((sum(file.units for file in files), len(files), name))
    most, count, largest = max(sizes, default=(0, 0, ""))
    if not most:
        return InputError(
            f"the source {source!r} has no {wanted}, and none of any size; "
            f"ask for another split or another source ({kept})"
        )
    return InputError(
        f"the source {source!r} has no {wanted}: the largest is {largest} with {most} units in "
        f"{count} file(s); ask for fewer or smaller units, fewer files, or give more text ({kept})"
    )


def _check_order(order: str) -> None:
    if order not in ORDERS:
        raise InputError(f"unknown order {order!r}: expected one of {', '.join(ORDERS)}")


def _check_sizes(
    unit: int, units: int, min_units: int, min_files: int, max_repositories: int | None
) -> None:
    check_positive(unit=unit, units=units, min_units=min_units, min_files=min_files)
    if max_repositories is not None:
        check_positive(max_repositories=max_repositories)
    if min_units > units:
        raise InputError(f"min_units {min_units} is over units {units}: expected at most as many")
    if min_files > units:
        raise InputError(f"min_files {min_files} is over units {units}: each file begins a unit")
