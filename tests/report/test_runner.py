"""The batch runner on a notebook of our own: pass, skip, fail and go on, killed and resumed."""

import io
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console

from ponderttt import __main__ as command
from ponderttt.errors import InputError
from ponderttt.report.batch import building, notebooks, pages, runner

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
        work = new_code_cell(RUN.format(tests=os.path.dirname(__file__)))
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


def run(checkout):
    out = io.StringIO()
    tasks = runner.plan("small", ())
    with runner.report_folder("small", checkout / "out") as folder:
        passed = runner.run_notebooks(tasks, "small", folder, Console(file=out, width=200))
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


def test_a_report_that_is_killed_leaves_no_half_page(checkout):
    set_params(checkout, "first", wait=60.0)
    script = (
        "from ponderttt.report.batch import notebooks, runner\n"
        "from pathlib import Path; import sys\n"
        "from types import SimpleNamespace\n"
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
    try:
        with pytest.raises(InputError, match="another process is at work"):
            run(checkout)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not list((checkout / "out").glob("pages/*"))
    set_params(checkout, "first", wait=0.1)
    passed, _, folder = run(checkout)
    assert passed and pages.read(folder, "first").status == pages.PASS


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
    assert len(capsys.readouterr().out) > 200
