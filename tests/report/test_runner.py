"""The batch runner on a notebook of our own: pass, skip, fail and go on, killed and resumed."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console

from ponderttt import __main__ as command
from ponderttt.errors import InputError
from ponderttt.report.batch import building, notebooks, pages, runner
from ponderttt.storage import alone_in

RUN = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.synthetic import baselines_result
from dataclasses import replace
Path(os.environ["PONDERTTT_PROGRESS"]).write_text(json.dumps(
    {{"label": "working", "done": 1, "total": 2}}))
time.sleep(wait)
assert not broken
"""

EXPERIMENT = SimpleNamespace(CONFIG=dict)  # an experiment that takes any parameter


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder of two notebooks and one preset, in place of ours."""
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(notebooks, "PARAMS", tmp_path / "params")
    (tmp_path / "notebooks").mkdir()
    for name in ("first", "second"):
        parameters = new_code_cell("broken: bool = False\nwait: float = 0.5\n")
        parameters.metadata["tags"] = ["parameters"]
        work = new_code_cell(RUN.format(tests=str(Path(__file__).parents[1])))
        save = new_code_cell(
            f"result = replace(baselines_result(documents=1, units=2), name={name!r})\n"
            "result.save()"
        )
        kernel = {"name": "python3", "display_name": "Python", "language": "python"}
        notebook = new_notebook(cells=[parameters, work, save], metadata={"kernelspec": kernel})
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
        set_params(tmp_path, name, broken=False)
        monkeypatch.setitem(sys.modules, f"ponderttt.experiments.{name}", EXPERIMENT)
    return tmp_path


def set_params(checkout, name, **params):
    path = checkout / "params" / "small" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(params))


def run(checkout, jobs=2):
    out = io.StringIO()
    tasks = runner.plan("small", ())
    with runner.report_folder("small", checkout / "out") as folder:
        passed = runner.run_notebooks(tasks, "small", folder, Console(file=out, width=200), jobs)
    return passed, out.getvalue(), folder / "pages"


def test_one_failure_does_not_stop_the_others_and_what_passed_is_not_run_again(checkout):
    set_params(checkout, "first", broken=True)
    passed, said, folder = run(checkout)
    assert not passed
    assert "cell 3 failed: AssertionError" in said and "first.log" in said
    assert "first: working" in said
    assert pages.read(folder, "first").status == pages.FAIL
    assert pages.read(folder, "second").status == pages.PASS
    assert (folder / "second.ipynb").is_file() and not (folder / "first.ipynb").exists()

    set_params(checkout, "first", broken=False)
    passed, said, folder = run(checkout)
    assert passed
    assert "second: finished before" in said
    metadata = nbformat.read(folder / "first.ipynb", as_version=4).metadata
    assert str(checkout) not in str(metadata["papermill"])


def start(checkout):
    """A report on the first notebook, in a process of its own, as it waits inside the notebook."""
    script = (
        "from ponderttt.report.batch import notebooks, runner; from pathlib import Path\n"
        "import signal, sys; from types import SimpleNamespace\n"
        # Else a suite that runs in the background hands down that Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.modules['ponderttt.experiments.first'] = SimpleNamespace(CONFIG=dict)\n"
        f"notebooks.NOTEBOOKS = Path({str(checkout / 'notebooks')!r})\n"
        f"notebooks.PARAMS = Path({str(checkout / 'params')!r})\n"
        "from rich.console import Console\n"
        f"with runner.report_folder('small', Path({str(checkout / 'out')!r})) as folder:\n"
        "    runner.run_notebooks(runner.plan('small', ('first',)), 'small', folder, Console())"
    )
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    progress = checkout / "out" / "work" / "first.progress.json"
    deadline = time.monotonic() + 120
    while not progress.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert progress.exists()
    return process


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_a_report_started_ends_with_it_and_leaves_no_half_page(checkout, sent):
    set_params(checkout, "first", wait=300.0)
    process = start(checkout)
    with pytest.raises(InputError, match="another process is at work"):
        run(checkout)
    children = psutil.Process(process.pid).children(recursive=True)
    said = [" ".join(child.cmdline()) for child in children]
    assert any("papermill" in line for line in said)
    assert any("ipykernel_launcher" in line for line in said)
    os.kill(process.pid, sent)  # to the report alone, not to its group
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert not list((checkout / "out").glob("pages/*"))
    set_params(checkout, "first", wait=0.1)
    passed, _, folder = run(checkout)
    assert passed and pages.read(folder, "first").status == pages.PASS


def test_notebooks_run_side_by_side(checkout):
    """Each waits for the other's first word, so neither can end before the other has begun."""
    for name, other in (("first", "second"), ("second", "first")):
        path = checkout / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        progress = checkout / "out" / "work" / f"{other}.progress.json"
        notebook.cells[
            1
        ].source += f"while not Path({str(progress)!r}).exists(): time.sleep(0.05)\n"
        nbformat.write(notebook, path)
    passed, said, _ = run(checkout, jobs=2)
    assert passed
    assert said.index("second: working") < said.index("first: pass")
    assert said.index("first: working") < said.index("second: pass")


def test_the_longest_notebook_is_started_first(checkout):
    """By what it took before; what has never run may take longer than any."""
    tasks = runner.plan("small", ())
    for name, seconds in (("first", 1.0), ("second", 9.0)):
        manifest = checkout / "out" / "pages" / "results" / name / pages.MANIFEST
        manifest.parent.mkdir(parents=True)
        page = pages.Page(name, "small", pages.FAIL, seconds, "", "", "")
        manifest.write_text(json.dumps(dataclasses.asdict(page)))
        assert [task.name for task in runner.longest_first(tasks, checkout / "out")] == [
            "second",
            "first",
        ]


@pytest.mark.parametrize(
    ("cores", "gigabytes", "expected"), [(4, 100, 3), (2, 100, 2), (8, 7, 2), (8, 1, 1)]
)
def test_jobs_follow_from_cores_memory_and_notebooks(monkeypatch, cores, gigabytes, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    free = SimpleNamespace(available=gigabytes * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert runner.choose_jobs(None, 3) == expected
    assert runner.choose_jobs(5, 3) == 5


def test_one_report_at_a_time_publishes(checkout, monkeypatch):
    """Who finds another at work in book/ waits; who waits in vain has changed nothing."""
    book = checkout / "book"
    book.mkdir()
    monkeypatch.setattr(building, "BOOK", book)
    monkeypatch.setattr(building, "WAIT_SECONDS", 0.1)
    run(checkout)
    with alone_in(book), pytest.raises(InputError, match="another process is at work"):
        building.publish(checkout / "out", ["first"])
    assert not (book / "experiments").exists()
    building.publish(checkout / "out", ["first"])
    assert (book / "experiments" / "first.ipynb").is_file()


def test_a_failed_page_fails_the_report_but_the_book_is_built(checkout, monkeypatch, capsys):
    set_params(checkout, "first", broken=True)
    built = []
    monkeypatch.setattr(
        building, "build_report", lambda folder, names: built.append(names) or folder / "index.html"
    )
    with pytest.raises(SystemExit) as stop:
        arguments = ["report", "--preset", "small", "--only", "first", "--publish"]
        command.main([*arguments, "--out", str(checkout / "out")])
    assert stop.value.code == 1
    assert built == [["first"]]
    said = capsys.readouterr().out
    assert "nothing was published" in said and "index.html" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "--preset", "huge"], "unknown preset 'huge': expected one of small"),
        (["report", "--preset", "small", "--jobs", "0"], "jobs is 0: expected 1 or more"),
        (["run", "third"], "unknown notebook 'third': expected one of first, second"),
        (["bench", "nothing"], "unknown bench 'nothing'"),
        (["report", "--preset", "small", "--out", "/proc/none"], "cannot write to the folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(checkout, capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize(
    "name", ["report", "run", "book", "bench", "convergence", "train-baseline"]
)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([name, "--help"])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"usage: ponderttt {name} " in said and "show this help message" in said
