"""Pages rendered anew from their records: the same notebooks and the same gate, no computing.

A notebook run under `PONDERTTT_STORED` takes its result from the record there in place of the
experiment's call. Tables that follow from others are computed again from these, where the
experiment has a `derive`: so a page can change its words, charts and intervals in seconds. The
record keeps the meta of the run that computed it; the page's manifest says where it was rendered.
"""

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from rich.console import Console

from ponderttt.errors import InputError
from ponderttt.experiments import notebook
from ponderttt.report.batch import building, gate, notebooks, pages
from ponderttt.report.batch.execution import Execution
from ponderttt.report.batch.live import at_work, say
from ponderttt.result import MANIFEST, Result
from ponderttt.storage import alone_in, commit, file_sha256, outputs_folder, writable_folder


def render(names: tuple[str, ...], book: Path, publish: bool, console: Console) -> int:
    """Render the pages `names` (default: all that `book` has records of); gives the exit code.

    They go to .report/render, and with `publish` to `book`, if all of them passed the gate.
    """
    found = [n for n in notebooks.select(names) if (book / "results" / n / MANIFEST).is_file()]
    if not found or len(found) < len(names):
        absent = ", ".join(name for name in names if name not in found) or "any notebook"
        raise InputError(
            f"{book} has no record of {absent}: expected results/<name>/{MANIFEST} there; "
            "compute it with `ponderttt report --publish`"
        )
    with alone_in(writable_folder(outputs_folder("render")).resolve()) as folder:
        stored = {name: _store(book, name, folder / "stored") for name in found}
        rendered = [_render(book, name, stored[name], folder, console) for name in found]
        passed = all(page.status == pages.PASS for page in rendered)
        if publish and passed:
            building.publish(folder, found, book)
            say(console, f"published into {book}")
        elif publish:
            say(console, "nothing was published: a page did not pass its gate")
        else:
            for name in found:
                say(console, str(folder / "pages" / f"{name}.ipynb"))
    return 0 if passed else 1


def _store(book: Path, name: str, folder: Path) -> dict:
    """Put the record into `folder`, tables that follow from others anew; gives the parameters.

    A record that was computed with other parameters than its preset's is an `InputError`.
    """
    experiment, page = import_module(f"ponderttt.experiments.{name}"), _manifest(book, name)
    if "notebook.run(" not in pages.template(name).read_text(encoding="utf-8"):
        raise InputError(
            f"{pages.template(name)} would compute: expected its result from notebook.run(...), "
            "which reads what is stored"
        )
    params = notebooks.load_params(notebooks.params_file(page.preset, name), pages.template(name))
    result = Result.load(book / "results" / name)
    if derive := getattr(experiment, "derive", None):
        result = derive(result)
    notebook.check_config(result, notebooks.config_of(name, params), book / "results" / name)
    result.save(folder / name)
    return params


def _render(book: Path, name: str, params: dict, folder: Path, console: Console) -> pages.Page:
    template, before = pages.template(name), _manifest(book, name)
    with _environment(folder / "stored"), at_work(console, f"rendering {name}"):
        execution = Execution(template, params, before.preset, folder / "work")
        try:
            execution.wait()
        finally:
            execution.stop()
    executed, record = execution.executed, execution.record
    problems = gate.problems(executed, template, params, record)
    if not problems:
        pages.tidy(executed)
    page = dataclasses.replace(
        before,
        status=pages.FAIL if problems else pages.PASS,
        inputs=pages.inputs_hash(template, notebooks.params_file(before.preset, name)),
        sha256="" if problems else file_sha256(executed),
        record="" if problems else Result.verify(record)["hash"],
        problems=tuple(problems),
        rendered=commit(),
    )
    pages.finish(page, executed, record, writable_folder(folder / "pages"))
    say(console, f"{name}: {page.status}, rendered from its record", not problems)
    for problem in problems:
        say(console, f"    {problem}")
    return page


def _manifest(book: Path, name: str) -> pages.Page:
    page = pages.read(book, name)
    if page is None:
        raise InputError(
            f"{book / 'results' / name / pages.MANIFEST} cannot be read: run its notebook again"
        )
    return page


@contextmanager
def _environment(stored: Path) -> Iterator[None]:
    """What the notebook's kernel inherits: where the stored results are."""
    os.environ[notebook.STORED] = str(stored)
    try:
        yield
    finally:
        del os.environ[notebook.STORED]
