"""What has been computed once and is kept: keys, values on disk, and what was taken from there.

A key is a digest of the code that computes and of its inputs. The code is found, not listed: it is
the import closure of the module that computes, as its import statements say it. A value is a
safetensors file whose name ends in the digest of its bytes, and whose header says which commit
computed it and in how many seconds.
"""

import ast
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from ponderttt.errors import InputError
from ponderttt.storage import alone_in, atomic_path, cache_folder, commit, file_sha256

PACKAGE = Path(__file__).resolve().parent
IGNORED = frozenset({"cache", "checks", "errors", "machine", "parsing", "progress", "storage"})
"""Modules of the ground floor that move no number: where values are kept, and what is said."""

Arrays = dict[str, np.ndarray]


class Origin(NamedTuple):
    """Where a kept value is from: the commit that computed it, and the seconds that took."""

    commit: str
    seconds: float


class Ledger(NamedTuple):
    """What this process took from the cache and had not put there itself."""

    values: int
    seconds: float
    """That it took to compute them."""
    commits: list[str]
    """That computed them, in alphabetical order."""


_taken: dict[Path, Origin | None] = {}
"""Each value that was used, by its place; None: this process computed it."""


def fingerprint(*parts: Any) -> str:
    """Hexadecimal digest of arrays (their types, shapes and bytes) and of everything else (repr).

    Also of how they are put together, of what computes (the version of jax, the kind of device,
    XLA's flags), and of the code behind this package's objects, in whatever they stand.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    digest = hashlib.sha256(f"{jax.__version__} {jax.default_backend()} {flags}".encode())
    for part in parts:
        leaves, structure = jax.tree.flatten(part)
        for kind in dict.fromkeys((type(part), *_kinds(structure))):
            if _is_ours(kind.__module__):
                digest.update(f"{kind.__qualname__} {code_fingerprint(kind.__module__)}".encode())
        digest.update(str(structure).encode())
        for leaf in leaves:
            if isinstance(leaf, jax.Array | np.ndarray):
                digest.update(f"{leaf.dtype}{leaf.shape}".encode())
                digest.update(np.ascontiguousarray(leaf).tobytes())
            else:
                digest.update(repr(leaf).encode())
        digest.update(b"|")
    return digest.hexdigest()


def _kinds(structure: Any) -> Iterator[type]:
    """The types of all nodes of a tree."""
    if structure.node_data() is not None:
        yield structure.node_data()[0]
    for child in structure.children():
        yield from _kinds(child)


def cached(kind: str, key: str, compute: Callable[[], Arrays], *, mapped: bool = False) -> Arrays:
    """What `compute` gives, kept under `key` among values of a `kind`, and read back from there.

    With `mapped` it is memory-mapped and read-only. Of processes that ask at once, one computes and
    the others wait for what it keeps. A damaged file is an `InputError`; a folder that cannot be
    written is one before anything is computed.
    """
    folder = cache_folder(kind, key[:2])  # a folder of some thousand files is slow to search
    path = _found(folder, key)
    if path is None:
        lock = f".{key}.lock"
        with alone_in(folder, wait_seconds=-1, lock=lock):
            path = _found(folder, key)
            if path is None:
                started = time.perf_counter()
                arrays = compute()
                path = _write(folder, key, arrays, Origin(commit(), time.perf_counter() - started))
                note(path, None)
            (folder / lock).unlink(missing_ok=True)  # who waits for it finds the value
    arrays, origin = _read(path)
    note(path, origin)
    return arrays if mapped else {name: np.array(array) for name, array in arrays.items()}


def _found(folder: Path, key: str) -> Path | None:
    return next(folder.glob(f"{key}-*.safetensors"), None)


def note(place: Path, origin: Origin | None) -> None:
    """Enter into the ledger that the value at `place` is used; None: it was computed just now."""
    _taken.setdefault(place, origin)


def ledger() -> Ledger:
    """What this process has taken from the cache so far, each value counted once."""
    found = [origin for origin in _taken.values() if origin]
    commits = sorted({origin.commit for origin in found})
    return Ledger(len(found), sum(origin.seconds for origin in found), commits)


def _write(folder: Path, key: str, arrays: Arrays, origin: Origin) -> Path:
    content = safetensors.numpy.save(
        {name: np.asarray(array, order="C") for name, array in arrays.items()},
        metadata={"commit": origin.commit, "seconds": f"{origin.seconds:.3f}"},
    )
    path = folder / f"{key}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def _read(path: Path) -> tuple[Arrays, Origin]:
    """The arrays of a file, memory-mapped, and where they are from."""
    if file_sha256(path)[:16] != path.stem.rpartition("-")[2]:
        raise InputError(
            f"{path} is corrupt: its checksum is not the one in its name; delete it, "
            "and it will be computed again"
        )
    content = np.memmap(path, mode="r")
    size = 8 + int(content[:8].view("<u8")[0])
    header = json.loads(bytes(content[8:size]))
    said = header.pop("__metadata__")
    arrays: Arrays = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        part: np.ndarray = content[size + start : size + end].view(_DTYPES[entry["dtype"]])
        arrays[name] = part.reshape(entry["shape"])
    return arrays, Origin(said["commit"], float(said["seconds"]))


_DTYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "I16": np.int16, "I32": np.int32,
    "U32": np.uint32, "I64": np.int64, "F16": np.float16, "F32": np.float32, "F64": np.float64,
}  # fmt: skip
"""safetensors' names of the types of numpy's that are kept."""


@cache
def code_fingerprint(module: str, package: Path = PACKAGE) -> str:
    """Digest of the code that `module` computes with, comments and docstrings aside.

    Caches keep it in their keys: what other code computed is computed again.
    """
    digest = hashlib.sha256()
    for name in import_closure(module, package):
        digest.update(f"{name} {_meaning(_source(name, package))}\n".encode())
    return digest.hexdigest()


def import_closure(module: str, package: Path = PACKAGE) -> list[str]:
    """`module` and all modules of this package that its imports lead to, but those `IGNORED`.

    A name that a package's `__init__` passes on leads to the module that defines it, and not to
    all that the package holds. What is imported for type checkers only is left out.

    >>> [name for name in import_closure("ponderttt.policies.budget")]
    ['ponderttt.policies.budget']
    """
    found, open_ = set(), [module]
    while open_:
        name = open_.pop()
        if name not in found and name.partition(".")[2] not in IGNORED:
            found.add(name)
            open_ += _imports(name, package)
    return sorted(found)


def _imports(module: str, package: Path) -> set[str]:
    return {
        _defining(source, name, package)
        for source, name, _ in _import_statements(_source(module, package))
    }


def _defining(module: str, name: str, package: Path) -> str:
    """The module that `from module import name` takes `name` from."""
    if not name:
        return module
    if _exists(f"{module}.{name}", package):
        return f"{module}.{name}"
    if _file(module, package).name == "__init__.py":
        for source, original, known_as in _import_statements(_source(module, package)):
            if known_as == name:
                return _defining(source, original, package)
    return module


@cache
def _import_statements(source: str) -> tuple[tuple[str, str, str], ...]:
    """Of this package's: (module, name in it or empty for all of it, name it is known as)."""
    found = []
    for node in _statements(ast.parse(source)):
        for alias in node.names:
            known_as = alias.asname or alias.name
            if isinstance(node, ast.Import):
                found.append((alias.name, "", known_as))
            elif node.level:
                raise InputError(f"from {'.' * node.level}{node.module or ''}: write it absolute")
            else:
                found.append((str(node.module), alias.name, known_as))
    return tuple(each for each in found if _is_ours(each[0]))


def _statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All import statements below `node`, those under `if TYPE_CHECKING` left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom | ast.Import):
            yield child
        elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield from _statements(child)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE.name


def _exists(module: str, package: Path) -> bool:
    place = package.joinpath(*module.split(".")[1:])
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def _file(module: str, package: Path) -> Path:
    place = package.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _source(module: str, package: Path) -> str:
    return _file(module, package).read_text(encoding="utf-8")


@cache
def _meaning(source: str) -> str:
    """Digest of what a source does."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a string that stands alone says something to readers only
            node.body = [x for x in body if not _is_text(x)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
