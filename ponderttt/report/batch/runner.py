"""The batch runner: every notebook of a preset, its gate, and the book with the pages."""

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console

from ponderttt.errors import InputError
from ponderttt.machine import can_show, probe_machine
from ponderttt.report.batch import building, gate, notebooks, pages
from ponderttt.report.batch.execution import Execution
from ponderttt.report.batch.live import Live, at_work, say
from ponderttt.result import Result
from ponderttt.storage import alone_in, file_sha256, outputs_folder, writable_folder

POLL_SECONDS = 0.2
BYTES_A_NOTEBOOK = 3 * 2**30
"""Memory that a notebook may need: so many run side by side as find it free."""


class Task(NamedTuple):
    """A notebook to be run: its template, its parameters (checked) and the hash of its inputs."""

    name: str
    template: Path
    params: dict[str, Any]
    inputs: str


def report_folder(preset: str, out: Path | None = None) -> AbstractContextManager[Path]:
    """Where a report goes, for this process alone: `out`, or .report/<preset> in the checkout."""
    return alone_in(writable_folder(out or outputs_folder(preset)).resolve())


def plan(preset: str, only: tuple[str, ...]) -> list[Task]:
    """The notebooks to run, with every parameter file and the machine checked before any starts."""
    tasks = []
    for name in notebooks.select(only):
        template, file = pages.template(name), notebooks.params_file(preset, name)
        params = notebooks.load_params(file, template)
        try:
            notebooks.config_of(name, params)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
        tasks.append(Task(name, template, params, pages.inputs_hash(template, file)))
    probe_machine()
    return tasks


def choose_jobs(jobs: int | None, notebooks: int) -> int:
    """How many notebooks run side by side: `jobs`, or as many as cores and free memory allow."""
    if jobs is not None:
        if jobs < 1:
            raise InputError(f"jobs is {jobs}: expected 1 or more notebooks side by side")
        return jobs
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    room = psutil.virtual_memory().available // BYTES_A_NOTEBOOK
    return max(1, min(cores or 1, room, notebooks))


def longest_first(tasks: list[Task], folder: Path) -> list[Task]:
    """By what each took in this report or the published one; first of all what never ran."""

    def seconds(task: Task) -> float:
        found = pages.read(folder / "pages", task.name) or pages.read(building.BOOK, task.name)
        return found.seconds if found else float("inf")

    return sorted(tasks, key=seconds, reverse=True)


def run_notebooks(
    tasks: list[Task], preset: str, folder: Path, console: Console, jobs: int | None = None
) -> bool:
    """Run each notebook whose page is not there yet, gate it and file it; True if all passed.

    `jobs` of them side by side, those first that took longest before. A notebook that fails does
    not keep the others from running; none outlives this process.
    """
    at_once = choose_jobs(jobs, len(tasks))
    waiting, passed = [], True
    running: list[tuple[Task, Execution]] = []
    with Live(console) as live:
        for task in tasks:
            if pages.is_current(folder / "pages", task.name, preset, task.inputs):
                live.end(task.name, True, "finished before, nothing has changed")
            else:
                waiting.append(task)
        waiting = longest_first(waiting, folder)
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    task = waiting.pop(0)
                    execution = Execution(task.template, task.params, preset, folder / "work")
                    running.append((task, execution))
                for task, execution in list(running):
                    live.show(task.name, *execution.progress())
                    if not execution.is_running():
                        running.remove((task, execution))
                        passed &= _file(task, execution, preset, folder, live)
                time.sleep(POLL_SECONDS)
        finally:
            for _, execution in running:
                execution.stop()
    return passed


def report(
    preset: str,
    only: tuple[str, ...],
    out: Path | None,
    publish: bool,
    console: Console,
    jobs: int | None = None,
) -> int:
    """Run, gate, build, and name the page at the end; gives the exit code.

    What is published is measured one notebook at a time, unless `jobs` says otherwise: it holds
    times.
    """
    tasks = plan(preset, only)
    jobs = choose_jobs(1 if publish and jobs is None else jobs, len(tasks))
    with report_folder(preset, out) as folder:
        names = [task.name for task in tasks]
        arrow = "→" if can_show("→", console.file) else "->"
        say(console, f"preset {preset}: {', '.join(names)} {arrow} {folder}")
        passed = run_notebooks(tasks, preset, folder, console, jobs)
        try:
            with at_work(console, "building the book"):
                index = building.build_report(folder, names)
        except building.BuildError as error:
            say(console, str(error))
            return 1
        if publish and passed:
            building.publish(folder, names)
            say(console, f"published into {building.BOOK}")
        elif publish:
            say(console, "nothing was published: a page did not pass its gate")
    page = index.parent / "experiments" / f"{names[0]}.html"
    say(console, f"book: {index}\npage: {page}")
    return 0 if passed else 1


def _file(task: Task, execution: Execution, preset: str, folder: Path, live: Live) -> bool:
    """Gate what has been executed, put it in its place and say what came of it."""
    executed, record, seconds = execution.executed, execution.record, execution.seconds
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
    live.end(task.name, not found, f"{page.status} in {page.seconds:.0f} s")
    for problem in page.problems:
        say(live.console, f"    {problem}")
    if page.problems:
        say(live.console, f"    log: {folder / 'work' / task.name}.log")
    return not found
