"""The batch runner: every notebook of a preset, its gate, and the book with the pages."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ponderttt.report.batch import building, gate, notebooks, pages
from ponderttt.report.batch.execution import execute
from ponderttt.result import Result
from ponderttt.storage import ROOT, alone_in, file_sha256, writable_folder


class Task(NamedTuple):
    """A notebook to be run: its template, its parameters (checked) and the hash of its inputs."""

    name: str
    template: Path
    params: dict[str, Any]
    inputs: str


def report_folder(preset: str, out: Path | None = None) -> AbstractContextManager[Path]:
    """Where a report goes, for this process alone: `out`, or .report/<preset> in the checkout."""
    return alone_in(writable_folder(out or ROOT / ".report" / preset).resolve())


def plan(preset: str, only: tuple[str, ...]) -> list[Task]:
    """The notebooks to run, with every parameter file checked before anything starts."""
    tasks = []
    for name in notebooks.select(only):
        template, file = pages.template(name), notebooks.params_file(preset, name)
        params = notebooks.load_params(file, template)
        import_module(f"ponderttt.experiments.{name}").CONFIG(**params)
        tasks.append(Task(name, template, params, pages.inputs_hash(template, file)))
    return tasks


def run_notebooks(tasks: list[Task], preset: str, folder: Path, console: Console) -> bool:
    """Run each notebook whose page is not there yet, gate it and file it; True if all passed.

    A notebook that fails does not keep the others from running.
    """
    passed = True
    for task in tasks:
        if pages.is_current(folder / "pages", task.name, preset, task.inputs):
            console.print(f"[green]✓[/] {task.name}: finished before, nothing has changed")
            continue
        page = _run(task, preset, folder, console)
        passed &= page.status == pages.PASS
        mark = "[green]✓[/]" if page.status == pages.PASS else "[red]✗[/]"
        console.print(f"{mark} {task.name}: {page.status} in {page.seconds:.0f} s")
        for problem in page.problems:
            console.print(f"    {problem}", markup=False)
        if page.problems:
            console.print(f"    log: {folder / 'work' / task.name}.log", markup=False)
    return passed


def report(
    preset: str, only: tuple[str, ...], out: Path | None, publish: bool, console: Console
) -> int:
    """Run, gate, build, and name the page at the end; gives the exit code."""
    tasks = plan(preset, only)
    with report_folder(preset, out) as folder:
        names = [task.name for task in tasks]
        console.print(f"preset {preset}: {', '.join(names)} → {folder}")
        passed = run_notebooks(tasks, preset, folder, console)
        try:
            with console.status("building the book"):
                index = building.build_report(folder, names)
        except building.BuildError as error:
            console.print(str(error), markup=False)
            return 1
        if publish and passed:
            for name in names:
                pages.copy(folder / "pages", name, building.BOOK)
            console.print(f"published into {building.BOOK}")
        elif publish:
            console.print("nothing was published: a page did not pass its gate")
    page = index.parent / "experiments" / f"{names[0]}.html"
    console.print(f"book: {index}\npage: {page}", soft_wrap=True, markup=False, highlight=False)
    return 0 if passed else 1


def _run(task: Task, preset: str, folder: Path, console: Console) -> pages.Page:
    with _progress(task.name, console) as show:
        executed, record, seconds = execute(task.template, task.params, folder / "work", show)
    found = gate.problems(executed, task.template, task.params, record)
    if not found:
        pages.tidy(executed)
    page = pages.Page(
        name=task.name,
        preset=preset,
        status=pages.FAIL if found else pages.PASS,
        seconds=round(seconds, 1),
        inputs=task.inputs,
        sha256="" if found else file_sha256(executed),
        record="" if found else Result.verify(record)["hash"],
        problems=tuple(found),
    )
    pages.finish(page, executed, record, writable_folder(folder / "pages"))
    return page


@contextmanager
def _progress(name: str, console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal; elsewhere one line each time that another stage begins."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[label]}"))
    seen = ""
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, label="", total=1)

        def show(label: str, done: int, total: int) -> None:
            nonlocal seen
            bar.update(task, label=f"{label} {done}/{total}", completed=done, total=total)
            if label != seen and not console.is_terminal:
                console.print(f"  {name}: {label}", markup=False)
            seen = label

        yield show
