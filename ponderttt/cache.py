"""What has been computed once and is kept: keys, and values on disk.

A key is a digest of the code that computes and of its inputs. The code is found, not listed: it is
the import closure of the module that computes, as its import statements say it.
"""

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ponderttt.storage import cache_folder, load_arrays, save_arrays

PACKAGE = Path(__file__).resolve().parent
IGNORED = frozenset({"cache", "checks", "errors", "progress", "storage"})
"""Modules of the ground floor that move no number: where values are kept, and what is said."""

Arrays = dict[str, np.ndarray]


def fingerprint(*parts: Any) -> str:
    """Hexadecimal digest of arrays (their bytes) and of everything else (its repr).

    Of an object of this package's, also of its kind and of the code behind that.
    """
    digest = hashlib.sha256()
    for part in parts:
        if _is_ours(type(part).__module__):
            code = code_fingerprint(type(part).__module__)
            digest.update(f"{type(part).__qualname__} {code}".encode())
        for leaf in jax.tree.leaves(part):
            if isinstance(leaf, jax.Array | np.ndarray):
                digest.update(np.ascontiguousarray(leaf).tobytes())
            else:
                digest.update(repr(leaf).encode())
        digest.update(b"|")
    return digest.hexdigest()


def cached(key: str, compute: Callable[[], Arrays]) -> Arrays:
    """What `compute` gives, kept under `key` on disk and read back from there."""
    folder = cache_folder("episodes")
    found = load_arrays(folder, key)
    return found if found is not None else save_arrays(folder, key, compute())


@cache
def code_fingerprint(module: str, package: Path = PACKAGE) -> str:
    """Digest of the code that `module` computes with, comments and docstrings aside.

    Caches keep it in their keys: what other code computed is computed again.
    """
    digest = hashlib.sha256()
    for name in import_closure(module, package):
        digest.update(name.encode() + _meaning(_file(name, package)).encode())
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


@cache
def _imports(module: str, package: Path) -> tuple[str, ...]:
    imports = _statements(ast.parse(_file(module, package).read_text(encoding="utf-8")))
    return tuple(
        target
        for node in imports
        if isinstance(node, ast.ImportFrom) and _is_ours(node.module or "")
        for alias in node.names
        if (target := _defining(str(node.module), alias.name, package))
    )


def _defining(module: str, name: str, package: Path) -> str:
    """The module that `from module import name` takes `name` from; empty for the package itself."""
    if _exists(f"{module}.{name}", package):
        return f"{module}.{name}"
    file = _file(module, package)
    if file.name == "__init__.py":
        for node in _statements(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return _defining(str(node.module), alias.name, package)
    return module


def _statements(node: ast.AST) -> Iterator[ast.AST]:
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


def _meaning(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a string that stands alone says something to readers only
            node.body = [x for x in body if not _is_text(x)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
