"""Pages rendered anew from records: the same notebook and gate, and nothing is computed."""

import io
import os
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, writes
from rich.console import Console
from support.synthetic import baselines_result

from ponderttt import storage
from ponderttt.errors import InputError
from ponderttt.report.batch import notebooks, pages, render
from ponderttt.result import Result

CELL = """
import sys
sys.path.insert(0, {tests!r})
import report.test_render as experiment
from ponderttt.experiments import notebook
experiment.__name__ = "fake"
result = notebook.run(experiment, notebook.config(experiment.CONFIG, globals()))
"""
MEANINGS = {"units": "a unit"}


@dataclass(frozen=True)
class CONFIG:
    """One parameter."""

    seed: int = 0


def run(config):
    raise AssertionError("computed")


def derive(result):
    halved = {name: table.head(len(table) // 2) for name, table in result.tables.items()}
    return Result(result.name, result.config, halved, result.scalars, result.meta)


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book with a record of one small notebook, computed at another commit."""
    for folder in ("NOTEBOOKS", "PARAMS"):
        monkeypatch.setattr(notebooks, folder, tmp_path / folder.lower())
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params" / "small").mkdir(parents=True)
    (tmp_path / "params" / "small" / "fake.yaml").write_text(yaml.safe_dump({"seed": 7}))
    parameters = new_code_cell("seed: int = 0")
    parameters.metadata["tags"] = ["parameters"]
    tests = os.path.dirname(os.path.dirname(__file__))
    cells = [parameters, new_code_cell(CELL.format(tests=tests)), new_code_cell("result.save()")]
    kernel = {"name": "python3", "display_name": "Python", "language": "python"}
    template = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    (tmp_path / "notebooks" / "fake.ipynb").write_text(writes(template))
    made = baselines_result(documents=1, units=2)
    result = Result("fake", {"seed": 7}, made.tables, meta={"versions": {}, "commit": "before"})
    result.save(tmp_path / "book" / "results" / "fake")
    manifest = pages.Page("fake", "small", pages.PASS, 7200.0, "", "", "")
    place = tmp_path / "book" / "results" / "fake" / pages.MANIFEST
    storage.write_text(place, pages.json.dumps(pages.dataclasses.asdict(manifest)))
    experiment = SimpleNamespace(CONFIG=CONFIG, derive=derive)
    monkeypatch.setitem(sys.modules, "ponderttt.experiments.fake", experiment)
    below = (tmp_path / ".report").joinpath
    monkeypatch.setattr(render, "outputs_folder", below)
    return tmp_path / "book"


def rendered(book, publish=True, names=()):
    out = io.StringIO()
    return render.render(names, book, publish, Console(file=out, width=200)), out.getvalue()


def test_a_page_is_rendered_from_its_record_which_keeps_its_meta(book):
    before = Result.load(book / "results" / "fake")
    code, said = rendered(book)
    assert code == 0, said
    page, after = pages.read(book, "fake"), Result.load(book / "results" / "fake")
    assert after.meta == before.meta and after.meta["commit"] == "before"
    assert len(after.tables["units"]) == len(before.tables["units"]) // 2
    assert (page.status, page.seconds) == (pages.PASS, 7200.0)
    assert page.rendered == storage.commit()
    assert page.sha256 == storage.file_sha256(book / "experiments" / "fake.ipynb")


def test_without_publishing_the_book_stays_as_it_is(book):
    before = {path: path.read_bytes() for path in book.rglob("*") if path.is_file()}
    code, said = rendered(book, publish=False)
    assert code == 0 and str(book.parent / ".report" / "render" / "pages" / "fake.ipynb") in said
    assert before == {path: path.read_bytes() for path in book.rglob("*") if path.is_file()}


def test_a_record_of_other_parameters_is_refused_before_anything_runs(book, monkeypatch):
    monkeypatch.setattr(render, "Execution", lambda *_: pytest.fail("ran"))
    (book.parent / "params" / "small" / "fake.yaml").write_text("seed: 8")
    with pytest.raises(InputError, match=r"other parameters \(seed\)"):
        rendered(book)


def test_a_notebook_that_would_compute_is_refused(book):
    template = book.parent / "notebooks" / "fake.ipynb"
    template.write_text(template.read_text().replace("notebook.run(", "experiment.run("))
    with pytest.raises(InputError, match="would compute"):
        rendered(book)


def test_a_page_without_a_record_is_refused(book):
    (book / "results" / "fake" / "record.json").unlink()
    for names in ((), ("fake",)):
        with pytest.raises(InputError, match="has no record of .*ponderttt report --publish"):
            rendered(book, names=names)
