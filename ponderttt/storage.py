"""Files that are either whole or absent: atomic writes, checksums, and where things are kept."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import filelock

from ponderttt.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout, where notebooks/, params/ and book/ are; of an installed package, site-packages."""


def in_checkout() -> bool:
    """Whether the package is used from its checkout (`pip install -e`), or installed without."""
    return (ROOT / "pyproject.toml").is_file() and (ROOT / "notebooks").is_dir()


def outputs_folder(*parts: str) -> Path:
    """A folder below .report in the checkout; without one in the current folder. It is not made."""
    return (ROOT if in_checkout() else Path.cwd()).joinpath(".report", *parts)


def as_path(text: str | Path, what: str) -> Path:
    """The path that a user wrote for `what` (`--source`, `PONDERTTT_CACHE`): ~ is the home folder.

    What no path can be (nothing at all, an unknown user's ~, a NUL, too long a name) is an
    `InputError`; whether something is there is for the caller to ask.

    >>> as_path("a/../b.txt", "--source")
    PosixPath('a/../b.txt')
    """
    said = os.fspath(text)
    if not said.strip():
        raise InputError(
            f"{what} is empty: expected a path (. for this folder); was a variable not set?"
        )
    try:
        path = Path(said).expanduser()
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError, RuntimeError) as error:
        shown = said if len(said) <= 60 else f"{said[:60]}…"
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} is {shown!r}, which cannot be a path: {reason}") from error
    return path


def cache_folder(*parts: str) -> Path:
    """A folder below the cache (`PONDERTTT_CACHE`, or ~/.cache/ponderttt), made if absent."""
    said = os.environ.get("PONDERTTT_CACHE", "")
    if said.strip():
        base = as_path(said, "PONDERTTT_CACHE")
    else:
        base = as_path("~/.cache/ponderttt", "the cache folder (set PONDERTTT_CACHE to another)")
    try:
        return writable_folder(base.joinpath(*parts))
    except InputError as error:
        raise InputError(f"{error} (the cache: PONDERTTT_CACHE names its folder)") from error


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
def alone_in(folder: Path, wait_seconds: float = 0, *, lock: str = ".lock") -> Iterator[Path]:
    """`folder` for one process at a time; an `InputError` where another stays at work.

    A negative `wait_seconds` waits for as long as the other works; `lock` names another file for
    what may go on beside. The lock is the system's: a process that is killed leaves nothing behind
    that has to be removed.
    """
    held = filelock.FileLock(folder / lock)
    try:
        held.acquire(timeout=wait_seconds)
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
        held.release()


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


def file_sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def commit() -> str:
    """The checkout's commit, with a + where files differ from it; `unknown` outside of git.

    A repository that the package merely lies in (an environment in a project's folder) is not it.

    As it was when this process asked first: what it computes with is what it then imported.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode().strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return "unknown"
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, ValueError, subprocess.CalledProcessError):
        return "unknown"
