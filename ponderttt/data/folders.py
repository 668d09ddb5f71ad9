"""A user's own file or folder, read whole: what is not read is counted, with its reason.

None of the rules made for packages hold here (their tests and vendored code are left out). Every
file that decodes as text is read, whatever its ending, but those of `DATA_ENDINGS` (save a copy as
.txt, or name the one file itself as the source); of notebooks the cells. Links are followed, each
folder once.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ponderttt.data.clean import OWN_MAX_BYTES, RawFile, Skipped
from ponderttt.data.kinds import DATA_ENDINGS, LANGUAGES, ending_of, kind_of
from ponderttt.data.readers import Found
from ponderttt.data.text import is_binary, printable

FEW = 20
"""Fewer texts than these are all the test split: shares of them would be nothing."""

BY_HASH = "by the hash of each name"

SPLIT_NAMES = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip
"""What a folder is called that is a split of its own."""

READ_HERE = (
    "text files with any ending (UTF-8, or UTF-16 with its mark) and the cells of .ipynb; data "
    f"({' '.join(DATA_ENDINGS[:6])} ...) is not read: save a copy as .txt, or name the one file"
)
"""Which files are read, for a message."""

_HEAD = 8192
"""Bytes that tell a binary file, so that the rest of it need not be read."""


def read_local(root: Path, *, whole: bool = False) -> Iterator[RawFile | Skipped]:
    """The files under a local folder, or one file, and all that is left out there.

    What is beside split folders is left out too, unless the folder is read `whole`.
    """
    found = walk(root)
    paths = [each.path for each in found if isinstance(each, Found)]
    named = None if whole else split_names(paths)
    beside = {path for path, name in zip(paths, named or (), strict=False) if name is None}
    for each in found:
        if isinstance(each, Skipped):
            yield each
        elif each.path in beside:
            yield Skipped(each.path, "beside the split folders")
        else:
            yield _read(each)


def local_versions(root: Path) -> dict[str, str]:
    """What changes when a file does: a digest of names, sizes and times, not of contents."""
    digest = hashlib.sha256()
    for each in walk(root):
        if isinstance(each, Skipped):
            digest.update(f"{each.path}\0{each.reason}\n".encode())
            continue
        try:
            status = each.file.stat()
            digest.update(f"{each.path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except OSError:  # gone, or out of reach: reading it will say so
            digest.update(f"{each.path}\0unreadable\n".encode())
    return {printable(root): digest.hexdigest()}


def own_splits(paths: list[str]) -> tuple[list[str] | None, str]:
    """(the split of each of a user's texts, or None for that of its name's hash; why so).

    The folders train, validation (valid, val, dev) and test, or files of such names (train.txt),
    are the splits as `split_names` finds them. Otherwise fewer than `FEW` texts are all test:
    nothing can be trained or tuned on them.
    """
    named = split_names(paths)
    if named is not None and all(named):
        return [str(name) for name in named], "as its folders say"
    if len(paths) < FEW:
        return ["test"] * len(paths), f"under {FEW} texts and no split folders: all are test"
    return None, BY_HASH


def split_names(paths: list[str]) -> list[str | None] | None:
    """The split that each path names, None where it names none; None where none is a split.

    Splits are train and another side by side, wherever that is, where at most as many texts are
    beside them as in them; or whatever all paths name.
    """
    found = [_split_of(path) for path in paths]
    beside: dict[str, set[str]] = {}
    for place, name in filter(None, found):
        beside.setdefault(place, set()).add(name)
    good = {place for place, names in beside.items() if "train" in names and len(names) > 1}
    named = [each[1] if each and each[0] in good else None for each in found]
    if 2 * sum(map(bool, named)) >= len(paths) > 0:
        return named
    every = [each[1] for each in found if each]
    in_folders = any(each and "/" in path for path, each in zip(paths, found, strict=True))
    if len(every) == len(paths) > 0 and (in_folders or len(set(every)) > 1):
        return list(every)
    return None


def _split_of(path: str) -> tuple[str, str] | None:
    """(the folder in which a folder or a file of prose is called like a split, that split)."""
    *folders, file = path.split("/")
    for depth, folder in enumerate(folders):
        if name := SPLIT_NAMES.get(folder.lower()):
            return "/".join(folders[:depth]), name
    prose = LANGUAGES.get(ending_of(file), "prose") == "prose"
    for piece in file.lower().split(".")[:-1] if prose else ():
        if (match := _SHARD.fullmatch(piece)) and (name := SPLIT_NAMES.get(match[1])):
            return "/".join(folders), name
    return None


_SHARD = re.compile(r"([a-z]+)(?:[-_]\d+(?:-of-\d+)?)?", re.ASCII)
"""A split's name and, where it is in several files, which of them: train-00000-of-00002."""


def walk(root: Path) -> list[Found | Skipped]:
    """Every file to be read under `root`, and what is left out, in the order of their names.

    Links are followed once all else was seen: what a link leads to is read under its own name where
    it has one here. One that leads back to where it came from is a loop, and is counted.
    """
    if not root.is_dir():
        return [_file(root, root.name, data="prose")]  # who names a file means it
    seen = {_identity(folder) for folder in (root, *root.resolve().parents)}
    found: list[Found | Skipped] = []
    folders, links = [(root, "")], list[tuple[str, Path]]()
    while folders or links:
        if folders:
            folder, prefix = folders.pop()
        else:
            links.sort(reverse=True)
            prefix, folder = links.pop()
            if (identity := _identity(folder)) in seen:
                found.append(Skipped(printable(prefix), "link to a folder that is read anyway"))
                continue
            seen.add(identity)
            prefix += "/"
        for entry in _entries(folder):
            if entry is None:
                found.append(Skipped(printable(prefix), "unreadable folder"))
                continue
            name = prefix + entry.name
            if entry.name.startswith("."):
                found.append(Skipped(printable(name), "hidden"))
            elif not _is_folder(entry):
                found.append(_file(Path(entry.path), name))
            elif entry.is_symlink():
                links.append((name, Path(entry.path)))
            elif (identity := _identity(Path(entry.path))) not in seen:
                seen.add(identity)
                folders.append((Path(entry.path), name + "/"))
    return sorted(found, key=lambda each: each.path)


def _entries(folder: Path) -> list[os.DirEntry] | list[None]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return [None]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int] | str:
    try:
        status = folder.stat()
        return status.st_dev, status.st_ino
    except OSError:
        return str(folder)


def _file(file: Path, name: str, data: str = "") -> Found | Skipped:
    """A file to read, or why not; `data` is the language of what is data by its ending."""
    shown = printable(name)
    try:
        mode = file.stat().st_mode
    except OSError:
        return Skipped(shown, "broken link" if file.is_symlink() else "unreadable")
    if not stat.S_ISREG(mode):  # reading a pipe or a device may never end
        return Skipped(shown, "neither file nor folder")
    kind = kind_of(name) or data
    return Found(file, shown, kind) if kind else Skipped(shown, f"data ({ending_of(name)})")


def _read(found: Found) -> RawFile | Skipped:
    try:
        data = _bytes_of(found)
    except OSError:
        return Skipped(found.path, "unreadable")
    if is_binary(data[:_HEAD]):
        return Skipped(found.path, "binary")
    return RawFile(data, found.path, found.language)


def _bytes_of(found: Found) -> bytes:
    """The bytes of a file, up to one more than it may have; of a binary one the first."""
    with found.file.open("rb") as file:
        data = file.read(_HEAD)
        return data if is_binary(data) else data + file.read(OWN_MAX_BYTES + 1 - len(data))
