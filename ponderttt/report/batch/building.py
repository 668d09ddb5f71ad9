"""Building the book with Jupyter Book, which is asked for its exit code and for its index."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from ponderttt.machine import child_environment
from ponderttt.report.batch import pages
from ponderttt.report.batch.execution import bytecode
from ponderttt.storage import ROOT, alone_in, writable_folder, write_text

BOOK = ROOT / "book"
STAMP = ".built-from"
WAIT_SECONDS = 300
"""Longer than another process takes to publish, or to build the published book."""
JUPYTER_BOOK = "import gc; gc.disable(); from jupyter_book.cli.main import main; main()"
"""One build frees little and then ends: collecting garbage was a fifth of its time."""


class BuildError(RuntimeError):
    """Jupyter Book failed; the message is the end of what it printed."""


def build(book: Path) -> Path:
    """Build the sources in `book`, warnings being errors; gives the path of the index page."""
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", "-W", "--keep-going", "-q", str(book)]
    done = subprocess.run(
        command,
        env=child_environment() | bytecode(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    index = book / "_build" / "html" / "index.html"
    if done.returncode or not index.is_file():
        raise BuildError(f"jupyter-book failed on {book}:\n{done.stdout[-4000:]}")
    return index


def publish(folder: Path, names: list[str], book: Path | None = None) -> None:
    """Put the finished pages `names` of the report in `folder` into `book`, nobody beside.

    Our own sources are the default.
    """
    with alone_in(book or BOOK, WAIT_SECONDS):
        for name in names:
            pages.copy(folder / "pages", name, book or BOOK)


def build_report(folder: Path, names: list[str]) -> Path:
    """The book in `folder`/book: our sources with the pages `names` of this report put in.

    Built beside its place and moved there when it is whole; left alone if nothing has changed.
    """
    book, following = folder / "book", folder / "work" / "book"
    shutil.rmtree(following, ignore_errors=True)
    shutil.copytree(BOOK, following, ignore=shutil.ignore_patterns("_build", ".lock"))
    for name in names:
        pages.copy(folder / "pages", name, following)
    stamp, index = _fingerprint(following), book / "_build" / "html" / "index.html"
    if index.is_file() and _read(book / STAMP) == stamp:
        return index
    build(following)
    write_text(following / STAMP, stamp)
    retired = writable_folder(folder / "work") / "book.old"
    shutil.rmtree(retired, ignore_errors=True)
    if book.exists():
        book.replace(retired)
    following.replace(book)
    shutil.rmtree(retired, ignore_errors=True)
    return index


def _fingerprint(book: Path) -> str:
    digest = hashlib.sha256(pages.library_hash().encode())
    for path in sorted(path for path in book.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(book)).encode() + path.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
