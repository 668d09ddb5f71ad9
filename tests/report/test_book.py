"""The book builds without a warning, and its pages draw in a browser that has no network."""

import re
import shutil
import subprocess

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from support.synthetic import baselines_result

from ponderttt.report.batch import building
from ponderttt.report.book.api import as_rst
from ponderttt.report.display import renderer
from ponderttt.report.pages import baselines as page

CHARTS = ("gain_by_position", "gain_against_cost", "paired_differences", "explorer")
CONFIG = building.BOOK / "_config.yml"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A small book with our configuration: formulas, a status table, a reference, every chart."""
    folder = tmp_path_factory.mktemp("book")
    shutil.copy(CONFIG, folder / "_config.yml")
    pages = ("charts", "method", "status", "api")
    chapters = "".join(f"  - file: {name}\n" for name in pages)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{chapters}")
    (folder / "index.md").write_text("# Index\n\nText.\n")
    (folder / "api.rst").write_text("Reference\n=========\n\n.. package:: ponderttt.report\n")
    for name in ("method", "status"):
        shutil.copy(building.BOOK / f"{name}.md", folder)
    write_charts(folder / "charts.ipynb")
    building.build(folder)
    return folder / "_build" / "html"


def write_charts(path):
    renderer.enable()
    result = baselines_result()
    cells = [new_markdown_cell("# Charts")]
    for count, name in enumerate(CHARTS, start=1):
        bundle = getattr(page, name)(result)._repr_mimebundle_()
        output = new_output("display_data", bundle)
        cells.append(new_code_cell(name, outputs=[output], execution_count=count))
    table = new_output("display_data", {"text/markdown": page.losses(result)})
    cells.append(new_code_cell("losses", outputs=[table], execution_count=9))
    metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)


def browse(page_path, tmp_path, *flags):
    """The page's document after its scripts have run, and what the console said."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here: .ci/run installs it")
    quiet = ("no-first-run", "disable-background-networking", "disable-component-update")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync",
        *(f"--{flag}" for flag in quiet), f"--user-data-dir={tmp_path / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
        "--virtual-time-budget=20000", *flags, "--dump-dom", page_path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


def test_every_chart_is_drawn_without_a_network_or_an_error(book, tmp_path):
    document, console = browse(book / "charts.html", tmp_path)
    assert document.count('data-drawn="true"') == len(CHARTS)
    assert len(re.findall(r'<svg[^>]*class="marks"', document)) == len(CHARTS)
    assert len(re.findall(r'class="vega-bind( vega-bind-radio)?"', document)) == 3
    wrong = [line for line in console if re.search(r"error|not defined|failed|cdn", line, re.I)]
    assert wrong == []


@pytest.mark.parametrize("name", ["index", "method", "status", "api", "charts"])
def test_no_page_loads_anything_from_elsewhere(book, name):
    html = (book / f"{name}.html").read_text()
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:)?//', html)
    assert loaded == []
    assert "cdn." not in html and "unpkg" not in html and "MathJax" not in html


def test_formulas_are_mathml(book):
    html = (book / "method.html").read_text()
    written = (building.BOOK / "method.md").read_text().count("\n$$\n") // 2
    assert html.count('display="block"') == written > 3
    assert "\\frac" not in html


def test_tables_that_were_computed_are_tables(book):
    assert '<td class="text-left"><p>base x2</p></td>' in (book / "charts.html").read_text()


def test_a_page_with_a_warning_does_not_build(tmp_path):
    shutil.copy(CONFIG, tmp_path / "_config.yml")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (tmp_path / "index.md").write_text("# Index\n\n[nowhere](nowhere.md)\n")
    with pytest.raises(building.BuildError, match="nowhere"):
        building.build(tmp_path)


def test_docstrings_become_text_that_sphinx_cannot_misread():
    lines = ["Uses `a*b` and *args; see x_.", "", "Axes:", "", "    B  documents", "", "Done."]
    assert as_rst(lines) == [
        "Uses ``a*b``\\  and \\*args; see x\\_.", "", "Axes:", "",
        "", "::", "", "    B  documents", "    ".strip(), "", "Done.",
    ]  # fmt: skip
