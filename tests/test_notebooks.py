"""Notebooks: their form, and that they run again as committed (nbval compares the checks)."""

import copy
import os
import re
import subprocess
import sys

import nbformat
import pytest

from ponderttt.report.batch import notebooks

TAG = "nbval-check-output"


def read(name):
    return nbformat.read(notebooks.NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", notebooks.names())
def test_a_notebook_is_short_and_leaves_the_work_to_the_library(name):
    cells = code(read(name))
    lines = [line for cell in cells for line in cell.source.splitlines()]
    assert len(lines) <= 40
    assert not any(line.lstrip().startswith(("def ", "class ", "for ", "while ")) for line in lines)
    assert "result = notebook.run(" in "\n".join(lines)


@pytest.mark.parametrize("name", notebooks.names())
def test_every_cell_shows_one_thing_and_is_introduced_by_a_sentence(name):
    cells = read(name).cells
    for before, cell in zip(cells, cells[1:], strict=False):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown", cell.source
            text = [line for line in before.source.splitlines() if line and line[0] != "#"]
            assert text and text[-1].rstrip("*").endswith((".", ":", "?")), before.source
            assert "display(" not in cell.source
            assert len([each for each in cell.outputs if each.output_type != "stream"]) <= 1
    assert "These parameters are the" not in str(cells)


@pytest.mark.parametrize("name", notebooks.names())
def test_a_notebook_is_committed_with_outputs_and_counts(name):
    cells = code(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    checked = [cell for cell in cells if TAG in cell.metadata.get("tags", [])]
    assert checked and all(cell.outputs for cell in checked)
    assert sum("application/vnd.vegalite.v5+json" in str(cell.outputs)[:200] for cell in cells) > 2


def nbval(path):
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider"]
    command += ["-o", "addopts=", "-o", "filterwarnings=default", str(path)]
    environment = os.environ | {"JUPYTER_PREFER_ENV_PATH": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize("name", notebooks.names())
def test_a_notebook_runs_as_committed_and_an_altered_check_fails(name, tmp_path):
    """One run tells both: the checked cell passes, and a copy of it with another number fails."""
    notebook = read(name)
    altered = copy.deepcopy(notebooks.tagged_cell(notebook, TAG))
    altered["id"] = "altered"
    altered.outputs[0].text = re.sub(r"\d+", "0", altered.outputs[0].text, count=1)
    place = notebook.cells.index(notebooks.tagged_cell(notebook, TAG))
    notebook.cells.insert(place + 1, altered)
    nbformat.write(notebook, tmp_path / "altered.ipynb")
    done = nbval(tmp_path / "altered.ipynb")
    passed = len(code(notebook)) - 1
    assert done.returncode == 1, done.stdout[-2000:]
    assert f"1 failed, {passed} passed" in done.stdout, done.stdout[-2000:]
