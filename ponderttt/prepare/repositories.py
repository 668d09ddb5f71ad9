"""Repositories as experiments read them: loaded by kind, one document each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import xxhash

from ponderttt.data import load_repositories
from ponderttt.data.repositories import FileSpan, Repositories
from ponderttt.errors import InputError
from ponderttt.evaluation.flops import keys_met
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.types import Documents

PROSE = ("wikipedia", "leads")
"""Sources whose repositories are articles: of one file each, and short."""
PROSE_UNITS = 16
"""Most units that are read of an article: few have more."""
UNITS_A_FILE = 32
"""A repository of n units has a file for each so many of them, and two at least."""


class Size(NamedTuple):
    """How long a repository is: `units` of `unit` tokens in at least `min_files` files."""

    unit: int
    units: int
    min_files: int = 1

    @classmethod
    def of(cls, unit: int, units: int) -> "Size":
        """With as many files as it takes to tell one from another."""
        return cls(unit, units, max(2, units // UNITS_A_FILE))

    def regroup(self, unit: int) -> "Size":
        """The same tokens in units of `unit` tokens."""
        return self._replace(unit=unit, units=self.units * self.unit // unit)


@dataclass(frozen=True)
class Repository:
    """One of them: a document with axis B = 1, and where its files are in it."""

    source: str
    name: str
    document: Documents
    files: tuple[FileSpan, ...]

    @property
    def title(self) -> str:
        """What it is called among those of all sources."""
        return f"{self.source}: {self.name}"

    def regroup(self, unit: int) -> "Repository":
        """The same tokens in units of `unit` tokens, which divides those that it has."""
        document = self.document.regroup(unit)
        longer = self.document.tokens.shape[-1] // unit
        files = tuple(
            span._replace(first_unit=span.first_unit * longer, units=-(-span.tokens // unit))
            for span in self.files
        )
        return replace(self, document=document, files=files)

    def units(self, taken: slice) -> "Repository":
        """Some of its units alone; the first of them begins a file."""
        tokens, mask, bos, starts = map(np.asarray, self.document)
        chosen = np.arange(tokens.shape[1])[taken]
        if len(chosen) == 0 or not starts[0, chosen[0]]:
            raise InputError(f"units {taken} of {self.title} do not begin with a file")
        document = Documents(tokens[:, chosen], mask[:, chosen], bos, starts[:, chosen])  # type: ignore[arg-type]
        first, end, unit = int(chosen[0]), int(chosen[-1]) + 1, tokens.shape[-1]
        files = tuple(
            span._replace(
                first_unit=span.first_unit - first,
                units=min(span.units, end - span.first_unit),
                tokens=min(span.tokens, (end - span.first_unit) * unit),
            )
            for span in self.files
            if first <= span.first_unit < end
        )
        return replace(self, document=document, files=files)

    def middle(self) -> int:
        """The unit nearest to the middle at which a file begins."""
        starts = np.asarray([span.first_unit for span in self.files])
        return int(starts[np.argmin(np.abs(starts - self.document.tokens.shape[1] / 2))])


def check_code(sources: Sequence[str]) -> None:
    """An `InputError` where all sources are articles: what is asked is asked of code."""
    if all(source in PROSE for source in sources):
        raise InputError(
            f"sources holds {', '.join(sources)} alone, which are articles: expected one of code "
            "too, such as packages"
        )


def mean_keys(repositories: Sequence[Repository], window: Window) -> float:
    """Keys that a query meets on average (`keys_met`), every repository weighing the same."""
    return float(np.mean([keys_met(each.document, window) for each in repositories]))


def load_kinds(
    lm: TransformerLM,
    sources: Sequence[str],
    *,
    split: str,
    size: Size,
    count: int,
    seed: int,
) -> tuple[list[Repository], dict[str, dict]]:
    """The first `count` repositories of each source, sources in turn, and each source's record.

    They are of `size`; articles have one file, and `PROSE_UNITS` units at most.
    """
    tokenizer, found, records = lm.load_tokenizer(), list[list[Repository]](), {}
    for source in sources:
        prose = source in PROSE
        loaded = load_repositories(
            source, tokenizer, split=split, unit=size.unit,
            units=min(size.units, PROSE_UNITS) if prose else size.units,
            min_files=1 if prose else size.min_files, max_repositories=count, seed=seed,
        )  # fmt: skip
        found.append(one_by_one(loaded))
        records[loaded.source] = loaded.record
    most = max(len(each) for each in found)
    return [each[i] for i in range(most) for each in found if i < len(each)], records


def one_by_one(loaded: Repositories) -> list[Repository]:
    """The repositories of a source, each by itself."""
    return [
        Repository(loaded.source, name, loaded.documents.select(slice(i, i + 1)), loaded.files[i])
        for i, name in enumerate(loaded.names)
    ]


def shuffled(repository: Repository, seed: int) -> tuple[Repository, np.ndarray]:
    """The same files in an order drawn by `seed`, and which unit stands where.

    What is drawn depends on the repository's name and the number of its files alone.
    """
    document, spans = repository.document, repository.files
    begins = np.flatnonzero(np.asarray(document.starts)[0])
    if begins.tolist() != [span.first_unit for span in spans]:
        raise InputError(f"{repository.title} holds files that it does not name: shuffle it first")
    last = int(np.flatnonzero(np.asarray(document.mask[0]).any(axis=-1))[-1]) + 1
    ends, units = [*begins[1:].tolist(), last], document.tokens.shape[1]
    name = xxhash.xxh64_intdigest(repository.name.encode())
    drawn = np.random.default_rng([seed, name]).permutation(len(spans))
    parts = [np.arange(begins[i], ends[i]) for i in drawn]
    order = np.concatenate([*parts, np.arange(last, units)])
    placed, at = [], 0
    for i in drawn.tolist():
        placed.append(spans[i]._replace(first_unit=at))
        at += ends[i] - int(begins[i])
    tokens, mask, _, starts = map(np.asarray, document)
    moved = Documents(tokens[:, order], mask[:, order], document.bos, starts[:, order])  # type: ignore[arg-type]
    return replace(repository, document=moved, files=tuple(placed)), order


def joined(first: Repository, then: Repository) -> Repository:
    """`first` and behind it `then`, one document; it has the name and the files of `then`."""
    parts = [each.document for each in (first, then)]
    tokens, mask, starts = (
        np.concatenate([np.asarray(getattr(part, name)) for part in parts], axis=1)
        for name in ("tokens", "mask", "starts")
    )
    document = Documents(tokens, mask, then.document.bos, starts)  # type: ignore[arg-type]
    before = first.document.tokens.shape[1]
    files = tuple(span._replace(first_unit=span.first_unit + before) for span in then.files)
    return replace(then, document=document, files=files)
