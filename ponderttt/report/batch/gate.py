"""The gate: what must hold of an executed page before anyone reads it.

Jupyter Book publishes a notebook that failed, or that never ran, without a word; so every page is
checked here: all cells of the template ran in order, nothing failed, the parameters injected are
those of the preset, and the record is whole and is the one that the page names.
"""

import ast
from pathlib import Path
from typing import Any

import nbformat

from ponderttt.errors import InputError
from ponderttt.report.batch import notebooks
from ponderttt.result import Result

INJECTED = "injected-parameters"


def problems(page: Path, template: Path, params: dict[str, Any], record: Path) -> list[str]:
    """What is wrong with the executed notebook `page`; nothing: it may be shown."""
    try:
        executed = notebooks.read(page)
    except InputError as error:
        return [f"cannot be read: {error}"]
    source = notebooks.read(template)
    found = _execution(executed) + _same_cells(executed, source) + _parameters(executed, params)
    return found + _record(executed, record)


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _execution(executed: nbformat.NotebookNode) -> list[str]:
    found = []
    counts = [cell.execution_count for cell in _code(executed)]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"its cells did not all run once and in order: execution counts {counts}")
    for number, cell in enumerate(_code(executed), start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                message = f"{output.ename}: {output.evalue}".partition("\n")[0]
                found.append(f"cell {number} failed: {message}")
    if executed.metadata.get("papermill", {}).get("exception"):
        found.append("papermill reports an exception")
    return found


def _same_cells(executed: nbformat.NotebookNode, source: nbformat.NotebookNode) -> list[str]:
    ran = [cell.source for cell in _code(executed) if INJECTED not in cell.metadata.get("tags", [])]
    if ran != [cell.source for cell in _code(source)]:
        return ["its cells are not those of its notebook: run it again"]
    return []


def _parameters(executed: nbformat.NotebookNode, params: dict[str, Any]) -> list[str]:
    cell = notebooks.tagged_cell(executed, INJECTED)
    injected = notebooks.assignments(cell.source) if cell else {}
    if injected != params:
        return [f"it ran with the parameters {injected}, not with the preset's {params}"]
    return []


def _record(executed: nbformat.NotebookNode, folder: Path) -> list[str]:
    try:
        record = Result.verify(folder)
    except InputError as error:
        return [str(error)]
    shown = [
        ast.literal_eval(output.data["text/plain"])
        for output in _code(executed)[-1].outputs
        if "text/plain" in output.get("data", {})
    ]
    if shown != [record["hash"]]:
        return [f"its last cell names the record {shown}, but there is {record['hash']}"]
    return []
