"""The house as it is laid out: sizes, rooms, words and axes. Every rule names what breaks it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import ponderttt
import ponderttt.types

HOUSE = Path(ponderttt.__file__).parent
ROOT = HOUSE.parent
FILES = sorted(HOUSE.rglob("*.py"))
PACKAGES = sorted(path.parent for path in HOUSE.rglob("__init__.py"))

TOP = {
    "__init__", "__main__", "types", "errors", "checks", "pytree", "storage", "progress", "cache",
    "compilation", "machine", "parsing", "result", "data", "inner", "models", "policies",
    "environment", "training", "evaluation", "prepare", "allocation", "experiments", "report",
    "bench",
}  # fmt: skip

UNTESTED = {"bench.peers": "needs torch"}
"""Packages without a test, each with the reason."""

ELSEWHERE = {
    "models.decoder.families": "models/decoder/test_weights.py",
    "experiments.oracle": "report/test_oracle_page.py",
    "experiments.ppo_policy": "report/test_allocation_pages.py",
    "experiments.live_policy": "experiments/test_train_policy.py",
    "report.batch": "report/test_runner.py",
    "report.display": "report/test_claims.py",
    "report.pages": "report/test_charts.py",
}
"""Packages whose tests stand under another name."""

RETIRED = set(
    "play play_all meet Make knob ways everything deciding even hard Part Setting Reading "
    "Way Units judge told walked tilted to_z2q pulled kept _mlp_pull written through_written "
    "remembered in_turns _round_robin following".split()
)
"""Private words for what the field has a name for: nothing of ours is called so again."""

RETIRED_IN = {"product": "inner", "draw": "allocation", "count": "environment", "at": "report"}
"""Words that are good elsewhere, by the package that used them for something of its own."""

ENGLISH = (
    "reads better", "in every way", "every way is read", "the road hold", "is told what",
    "have been told",
)  # fmt: skip
"""Phrases that only we understood."""

SHAPED = {"Float", "Int", "Bool", "UInt", "UInt8", "UInt32", "Integer", "Inexact", "Num", "Real",
          "Shaped", "Complex", "Key"}  # fmt: skip


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name_of(package: Path) -> str:
    return ".".join(package.relative_to(HOUSE).parts)


def functions(path: Path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def names(path: Path):
    """Everything that a file defines at its top or in a class, or imports from our own files."""
    tree = tree_of(path)
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ponderttt"):
            yield from (name for alias in node.names for name in (alias.name, alias.asname) if name)
    for node in (node for body in bodies for node in body):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def axes(path: Path):
    """`(line, axis)` of every axis in every jaxtyping annotation."""
    for node in ast.walk(tree_of(path)):
        if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
            continue
        if node.value.id not in SHAPED:
            continue
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        shape = parts[-1]
        if isinstance(shape, ast.Constant):
            assert isinstance(shape.value, str), (path, node.lineno)
            for axis in shape.value.split():
                yield node.lineno, axis.lstrip("*#?_")


def declared() -> dict[str, str]:
    rows = re.findall(r"^    (\w)  (\S.*)$", ponderttt.types.__doc__ or "", re.M)
    assert len(rows) == len(dict(rows)), "a letter is declared twice"
    assert len(rows) == len({meaning for _, meaning in rows}), "two letters for one thing"
    return dict(rows)


def test_no_file_is_above_300_lines():
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in FILES}
    assert len(lines) > 100
    assert not {name: count for name, count in lines.items() if count > 300}


def test_no_function_is_above_60_lines():
    lengths = {
        f"{path.relative_to(ROOT)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in functions(path)
    }
    assert len(lengths) > 500
    assert not {name: length for name, length in lengths.items() if length > 60}


def test_every_module_says_what_it_is():
    silent = [path for path in FILES if len((ast.get_docstring(tree_of(path)) or "").split()) < 3]
    assert not silent


def test_every_folder_of_code_is_a_package():
    assert not {path.parent for path in FILES} - set(PACKAGES)


def test_the_top_level_is_that_of_the_house():
    found = {path.stem for path in HOUSE.iterdir() if not path.name.startswith("__pycache__")}
    assert found == TOP


def test_tests_mirror_the_packages():
    tests, missing = ROOT / "tests", set()
    pages = "".join(path.read_text() for path in tests.glob("*/test_*.py"))
    for package in set(PACKAGES) - {HOUSE}:
        name, place = name_of(package), tests / package.relative_to(HOUSE)
        beside = place.parent / f"test_{place.name}.py"
        if name.startswith("report.pages."):  # one package a page
            assert f"pages.{place.name}" in pages or f"pages import {place.name}" in pages, name
        elif not (beside.exists() or any(place.rglob("test_*.py"))):
            missing.add(name)
    assert missing == {*UNTESTED, *ELSEWHERE}, "give it a test, or say why it has none"
    assert all((tests / path).exists() for path in ELSEWHERE.values())


@pytest.mark.parametrize("folder", ["ponderttt", "tests"])
def test_no_private_word_is_a_name(folder):
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in (path.stem, *names(path))
        if name in RETIRED or RETIRED_IN.get(name) in path.parts
    ]
    assert not found


def test_no_private_english_is_published():
    texts = [
        *FILES, *sorted((ROOT / "notebooks").rglob("*.ipynb")),
        *sorted((ROOT / "book").glob("*.md")),
        *(path for path in sorted((ROOT / "params").rglob("*")) if path.is_file()),
        ROOT / "README.md",
    ]  # fmt: skip
    found = [
        f"{path.relative_to(ROOT)}: {phrase}"
        for path in texts
        for phrase in ENGLISH
        if phrase in " ".join(path.read_text().lower().split())
    ]
    assert not found


def test_every_axis_has_one_declared_meaning():
    table, used = declared(), set()
    for path in FILES:
        for line, axis in axes(path):
            where = f"{path.relative_to(ROOT)}:{line}: axis {axis!r}"
            if len(axis) == 1 and axis.isalpha():
                assert axis in table, f"{where} is not in the table of ponderttt/types.py"
                used.add(axis)
            else:
                assert re.fullmatch(r"\d+|[a-z]{4,}|\.{3}|", axis), f"{where}: a letter or a word"
    assert used == set(table), "a letter that nothing uses"
