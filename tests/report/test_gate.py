"""The gate passes a page that ran, and finds each way in which a page can be less than that."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from support.synthetic import baselines_result

from ponderttt.report.batch import gate, notebooks, pages
from ponderttt.result import Result

PARAMS = {"rate": 0.5, "names": ["a"]}


@pytest.fixture
def page(tmp_path):
    """A template, the page that it became, and the record: all as they should be."""
    record = tmp_path / "record"
    digest = baselines_result(documents=1, units=2).save(record)
    sources = ["rate: float = 1.0\nnames: list = ['b']", "run()", "result.save()"]
    template = new_notebook(cells=[new_code_cell(source) for source in sources])
    template.cells[0].metadata["tags"] = ["parameters"]
    injected = new_code_cell("# Parameters\nrate = 0.5\nnames = ['a']\n")
    injected.metadata["tags"] = ["injected-parameters"]
    executed = copy.deepcopy(new_notebook(cells=[template.cells[0], injected, *template.cells[1:]]))
    for count, cell in enumerate(executed.cells, start=1):
        cell["execution_count"] = count
    shown = new_output("execute_result", {"text/plain": repr(digest)}, execution_count=4)
    executed.cells[-1]["outputs"] = [shown]
    return executed, template, record, tmp_path


def problems(page):
    executed, template, record, folder = page
    nbformat.write(executed, folder / "page.ipynb")
    bare = nbformat.from_dict(template)
    nbformat.write(bare, folder / "template.ipynb")
    return gate.problems(folder / "page.ipynb", folder / "template.ipynb", PARAMS, record)


def test_a_good_page_passes(page):
    assert problems(page) == []


def failed_cell(executed):
    executed.cells[2]["outputs"] = [new_output("error", ename="ValueError", evalue="no\nmore")]


def papermill_exception(executed):
    executed.metadata["papermill"] = {"exception": True}


def never_ran(executed):
    executed.cells[3]["execution_count"] = None


def out_of_order(executed):
    executed.cells[2]["execution_count"], executed.cells[3]["execution_count"] = 4, 3


def altered_cell(executed):
    executed.cells[2]["source"] = "run_something_else()"


def other_parameters(executed):
    executed.cells[1]["source"] = "rate = 0.6\nnames = ['a']"


def no_parameters(executed):
    executed.cells[1]["metadata"]["tags"] = []


def other_record(executed):
    executed.cells[-1]["outputs"][0]["data"]["text/plain"] = "'0123'"


def no_record(executed):
    executed.cells[-1]["outputs"] = []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (failed_cell, "cell 3 failed: ValueError: no"),
        (papermill_exception, "papermill reports"),
        (never_ran, "in order"),
        (out_of_order, "in order"),
        (altered_cell, "not those of its notebook"),
        (other_parameters, "'rate': 0.6"),
        (no_parameters, "parameters"),
        (other_record, "0123"),
        (no_record, "names the record"),
    ],
)
def test_a_spoilt_page_is_stopped_and_the_reason_said(page, spoil, said):
    spoil(page[0])
    assert said in " ".join(problems(page))


def test_a_damaged_record_is_stopped(page):
    next(page[2].glob("units-*.parquet")).write_bytes(b"")
    assert "damaged" in " ".join(problems(page))


def test_a_page_that_is_no_notebook_is_stopped(page):
    folder = page[3]
    (folder / "half.ipynb").write_text('{"cells": [')
    nbformat.write(page[1], folder / "template.ipynb")
    found = gate.problems(folder / "half.ipynb", folder / "template.ipynb", PARAMS, page[2])
    assert "cannot be read" in found[0]


def finished(page, status=pages.PASS, found=()):
    assert problems(page) == []
    folder = page[3]
    digest = Result.verify(page[2])["hash"]
    sha = pages.file_sha256(folder / "page.ipynb")
    manifest = pages.Page("baselines", "smoke", status, 1.0, "inputs", sha, digest, tuple(found))
    pages.finish(manifest, folder / "page.ipynb", page[2], folder / "pages")
    return folder / "pages"


def test_a_finished_page_is_current_until_anything_changes(page):
    folder = finished(page)
    assert pages.is_current(folder, "baselines", "smoke", "inputs")
    assert not pages.is_current(folder, "baselines", "quick", "inputs")
    assert not pages.is_current(folder, "baselines", "smoke", "other inputs")
    executed = folder / "baselines.ipynb"
    executed.write_text(executed.read_text() + "\n")
    assert not pages.is_current(folder, "baselines", "smoke", "inputs")


def test_a_page_without_its_manifest_or_record_is_not_current(page):
    folder = finished(page)
    next((folder / "results" / "baselines").glob("gains-*.parquet")).unlink()
    assert not pages.is_current(folder, "baselines", "smoke", "inputs")
    (folder / "results" / "baselines" / pages.MANIFEST).write_text("{")
    assert pages.read(folder, "baselines") is None


def test_a_failed_page_is_a_stub_in_the_book(page):
    folder = finished(page, pages.FAIL, ["cell 3 failed: ValueError"])
    book = page[3] / "book"
    (book / "experiments").mkdir(parents=True)
    (book / "experiments" / "baselines.ipynb").write_text("an older page")
    pages.copy(folder, "baselines", book)
    assert not (book / "experiments" / "baselines.ipynb").exists()
    assert "ValueError" in (book / "experiments" / "baselines.md").read_text()


@pytest.mark.parametrize("name", notebooks.names())
def test_the_published_page_is_whole(name):
    results = notebooks.ROOT / "book" / "results" / name
    page = pages.read(results.parents[1], name)
    executed = notebooks.ROOT / "book" / "experiments" / f"{name}.ipynb"
    assert page is not None and page.status == pages.PASS
    assert pages.file_sha256(executed) == page.sha256
    assert Result.verify(results)["hash"] == page.record
    # It is our notebook that ran, all of it, with the parameters that the preset's file holds now.
    template = pages.template(name)
    params = notebooks.load_params(notebooks.params_file(page.preset, name), template)
    assert gate.problems(executed, template, params, results) == []


def test_an_altered_published_page_is_found(tmp_path):
    """Other parameters, and another cell, than the notebook has."""
    name = notebooks.names()[0]
    template, book = pages.template(name), notebooks.ROOT / "book"
    page = pages.read(book, name)
    params = notebooks.load_params(notebooks.params_file(page.preset, name), template)
    executed = nbformat.read(book / "experiments" / f"{name}.ipynb", as_version=4)
    executed.cells[-1]["source"] += " # altered"
    nbformat.write(executed, tmp_path / "page.ipynb")
    found = gate.problems(
        tmp_path / "page.ipynb", template, params | {"seed": -7}, book / "results" / name
    )
    assert any("not those of its notebook" in said for said in found)
    assert any("'seed': -7" in said for said in found)
