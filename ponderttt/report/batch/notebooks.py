"""Notebooks and their parameter files: what exists, and whether the one fits the other."""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat

from ponderttt.checks import said, shown
from ponderttt.errors import InputError
from ponderttt.parsing import read_text, read_yaml
from ponderttt.storage import ROOT

NOTEBOOKS, PARAMS = ROOT / "notebooks", ROOT / "params"
_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    bool: "true or false",
}


def names() -> list[str]:
    """The notebooks of the checkout, in alphabetical order."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def presets() -> list[str]:
    """The presets of the checkout: the folders of params/."""
    return sorted(path.name for path in PARAMS.iterdir() if path.is_dir())


def select(only: tuple[str, ...] = ()) -> list[str]:
    """`only`, or every notebook; an unknown name is an `InputError`."""
    for name in only:
        if name not in names():
            raise InputError(
                f"unknown notebook {shown(name)}: expected one of {', '.join(names())}"
            )
    return list(only) or names()


def params_file(preset: str, name: str) -> Path:
    """The parameters of a notebook under a preset; an unknown preset is an `InputError`."""
    if preset not in presets():
        raise InputError(f"unknown preset {shown(preset)}: expected one of {', '.join(presets())}")
    path = PARAMS / preset / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"preset {preset!r} has no parameters for {name!r}: write {path}")
    return path


def config_of(name: str, params: dict[str, Any]) -> Any:
    """The configuration that the experiment `name` makes of `params`, its lists as tuples."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in params.items()}
    return import_module(f"ponderttt.experiments.{name}").CONFIG(**values)


def load_params(path: Path, notebook: Path) -> dict[str, Any]:
    """The parameters in `path`, checked against those that `notebook` declares."""
    params = read_yaml(path, "a parameter and its value a line, such as `seed: 0`")
    declared = declared_params(notebook)
    for key, value in params.items():
        if key not in declared:
            raise InputError(
                f"{path}: unknown parameter {shown(key)}; {notebook.name} has {', '.join(declared)}"
            )
        if not _fits(value, declared[key]):
            raise InputError(
                f"{path}: {key} is {shown(value)}: expected {_KINDS[type(declared[key])]}, "
                f"such as {declared[key]!r}"
            )
    return params


def declared_params(notebook: Path) -> dict[str, Any]:
    """Names and defaults in the cell tagged `parameters`, without running it."""
    cell = tagged_cell(read(notebook), "parameters")
    try:
        return assignments(cell.source) if cell else {}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise InputError(
            f"{notebook}: its cell tagged parameters cannot be used ({error}): expected literal "
            "assignments, such as `seed: int = 0`"
        ) from error


def read(notebook: Path) -> nbformat.NotebookNode:
    """A notebook; what is none is an `InputError`."""
    expected = "a Jupyter notebook (version 4)"
    text = read_text(notebook, expected)
    try:
        found = nbformat.reads(text, as_version=4)
        for cell in found.cells:
            _ = cell.cell_type, cell.source.strip(), cell.metadata.keys()
            _ = cell.cell_type != "code" or (cell.outputs, cell.execution_count)
        return found
    except Exception as error:  # nbformat raises whatever the missing part makes it
        reason = f"{notebook} is no notebook ({said(error)})"
        raise InputError(f"{reason}: expected {expected}") from error


def tagged_cell(notebook: nbformat.NotebookNode, tag: str) -> nbformat.NotebookNode | None:
    """The first cell with `tag`, or None."""
    cells = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
    return next(cells, None)


def assignments(source: str) -> dict[str, Any]:
    """Names and values of the literal assignments in Python source, annotated or not."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            found[node.target.id] = ast.literal_eval(node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def _fits(value: Any, default: Any) -> bool:
    """Whether a parameter has its default's type; whole numbers pass as floats."""
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, list):
        return isinstance(value, list) and all(_fits(item, default[0]) for item in value if default)
    return type(value) is type(default)
