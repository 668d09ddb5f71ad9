"""Finished pages: an executed notebook, its record, and the manifest that holds them together.

A page of the notebook `name` is `<name>.ipynb` and `results/<name>/`, which holds the record and
`page.json`. The manifest is removed first and written last: where it stands, the page is whole.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat

from ponderttt.errors import InputError
from ponderttt.parsing import read_json
from ponderttt.report.batch import notebooks
from ponderttt.result import Result
from ponderttt.storage import ROOT, file_sha256, writable_folder, write_text

MANIFEST = "page.json"
PASS, FAIL = "pass", "fail"
VERSIONED = ("altair", "flax", "jax", "numpy", "pandas", "papermill", "scipy", "vl-convert-python")


@dataclass(frozen=True)
class Page:
    """The manifest of a page: what it was made from, and what came of it."""

    name: str
    preset: str
    status: str
    seconds: float
    inputs: str
    """Hash of everything that the page depends on: notebook, parameters, library, versions."""
    sha256: str
    """Of the executed notebook; empty where the gate was not passed."""
    record: str
    problems: tuple[str, ...] = ()
    rendered: str = ""
    """The commit at which it was rendered from its record; empty: as it was computed."""


def inputs_hash(template: Path, params_file: Path) -> str:
    """Hash of what a page is computed from; unchanged, a finished page need not be made again."""
    digest = hashlib.sha256()
    notebook = notebooks.read(template)
    digest.update(json.dumps([(cell.cell_type, cell.source) for cell in notebook.cells]).encode())
    digest.update(params_file.read_bytes())
    digest.update(library_hash().encode())
    digest.update(str([importlib.metadata.version(name) for name in VERSIONED]).encode())
    return digest.hexdigest()


def library_hash() -> str:
    """Hash of every file of the package that a page or the book can depend on."""
    digest = hashlib.sha256()
    package = ROOT / "ponderttt"
    for path in sorted(package.rglob("*")):
        if path.suffix in {".py", ".js", ".css"} and "bench" not in path.relative_to(package).parts:
            digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()


def finish(page: Page, executed: Path, record: Path, folder: Path) -> None:
    """Move an executed notebook and its record to their places in `folder`, then write `page`."""
    results = writable_folder(folder / "results" / page.name)
    (results / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(results)
    if page.status == PASS:
        record.replace(results)
        executed.replace(folder / f"{page.name}.ipynb")
    write_text(results / MANIFEST, json.dumps(dataclasses.asdict(page), indent=1) + "\n")


def read(folder: Path, name: str) -> Page | None:
    """The manifest of a finished page; None if there is none that can be read."""
    try:
        fields = read_json(folder / "results" / name / MANIFEST, "a page's manifest")
        page = Page(**fields | {"problems": tuple(fields["problems"])})
    except (InputError, TypeError, LookupError):
        return None
    texts = [page.name, page.preset, page.status, page.inputs, page.sha256, page.record]
    texts += [page.rendered, *page.problems]
    whole = all(isinstance(text, str) for text in texts) and isinstance(page.seconds, int | float)
    return page if whole else None


def is_current(folder: Path, name: str, preset: str, inputs: str) -> bool:
    """Whether `folder` holds this page, whole, passed, and made from these inputs."""
    page = read(folder, name)
    if page is None or (page.status, page.preset, page.inputs) != (PASS, preset, inputs):
        return False
    executed = folder / f"{name}.ipynb"
    try:
        record = Result.verify(folder / "results" / name)
    except InputError:
        return False
    return executed.is_file() and (file_sha256(executed), record["hash"]) == (
        page.sha256,
        page.record,
    )


def tidy(executed: Path) -> None:
    """Drop what papermill notes of this machine and this minute; keep the parameters."""
    notebook = nbformat.read(executed, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    ran = notebook.metadata.get("papermill", {})
    notebook.metadata["papermill"] = {
        key: ran[key] for key in ("parameters", "exception", "version") if key in ran
    }
    write_text(executed, nbformat.writes(notebook) + "\n")


def copy(folder: Path, name: str, book: Path) -> None:
    """Copy the finished page `name` of `folder` into the sources of a book."""
    results = book / "results" / name
    target = writable_folder(book / "experiments") / f"{name}.ipynb"
    page = read(folder, name)
    if page is None:
        raise InputError(f"{folder} has no finished page {name!r}: run its notebook first")
    (results / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(results, ignore_errors=True)
    shutil.copytree(
        folder / "results" / name, results, ignore=shutil.ignore_patterns(MANIFEST, ".*")
    )
    target.unlink(missing_ok=True)
    stub = target.with_suffix(".md")
    stub.unlink(missing_ok=True)
    if page.status == PASS:
        write_text(target, (folder / f"{name}.ipynb").read_text(encoding="utf-8"))
    else:
        write_text(stub, _stub(page))
    write_text(results / MANIFEST, (folder / "results" / name / MANIFEST).read_text())


def template(name: str) -> Path:
    """The notebook that a page is made from."""
    return notebooks.NOTEBOOKS / f"{name}.ipynb"


def _stub(page: Page) -> str:
    lines = [f"# {page.name}", "", "This notebook did not pass its gate, so there is no page:", ""]
    return "\n".join([*lines, *(f"* {problem}" for problem in page.problems)]) + "\n"
