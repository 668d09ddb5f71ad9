"""Files that are either whole or absent: atomic writes, checksums and where the caches live."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import filelock
import numpy as np
import safetensors.numpy

from ponderttt.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: where notebooks/, params/ and book/ are."""


def cache_folder(*parts: str) -> Path:
    """A folder below the cache (`PONDERTTT_CACHE`, or ~/.cache/ponderttt), made if absent."""
    base = Path(os.environ.get("PONDERTTT_CACHE") or Path.home() / ".cache" / "ponderttt")
    return writable_folder(base.joinpath(*parts))


def writable_folder(folder: Path | str) -> Path:
    """`folder`, made if absent and shown to be writable; otherwise an `InputError`."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            pass
    except OSError as error:
        raise InputError(
            f"cannot write to the folder {folder}: {error.strerror or error}; "
            "free some space there or name another folder"
        ) from error
    return folder


@contextmanager
def alone_in(folder: Path, wait_seconds: float = 0) -> Iterator[Path]:
    """`folder` for one process at a time; an `InputError` where another stays at work.

    The lock is the system's: a process that is killed leaves nothing behind that has to be removed.
    """
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=wait_seconds)
    except filelock.Timeout:
        raise InputError(
            f"another process is at work in {folder}: wait until it ends, or name another folder"
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot lock {folder}: {error.strerror or error}; name another folder"
        ) from error
    try:
        yield folder
    finally:
        lock.release()


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name only if the block ends well."""
    path = Path(path)
    writable_folder(path.parent)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}-", suffix=".part" + path.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; "
            "free some space or name another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` atomically (UTF-8)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_arrays(folder: Path, key: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Write `arrays` as `<key>-<digest>.safetensors`, atomically, and return them."""
    content = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    digest = hashlib.sha256(content).hexdigest()[:16]
    with atomic_path(folder / f"{key}-{digest}.safetensors") as temporary:
        temporary.write_bytes(content)
    return dict(arrays)


def load_arrays(folder: Path, key: str) -> dict[str, np.ndarray] | None:
    """The arrays saved under `key`, or None; a file that does not match its name is an error."""
    for path in folder.glob(f"{key}-*.safetensors"):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] != path.stem.removeprefix(f"{key}-"):
            raise InputError(
                f"{path} is corrupt: its checksum is not the one in its name; delete it, "
                "and it will be computed again"
            )
        return safetensors.numpy.load(content)
    return None


def file_sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
