import json

import altair as alt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic import baselines_result

from ponderttt.report.display import renderer, token_text
from ponderttt.report.pages import baselines as page

CHARTS = ("gain_by_position", "gain_against_cost", "paired_differences", "explorer")


@pytest.fixture(scope="module", autouse=True)
def look():
    renderer.enable()
    yield
    alt.renderers.enable("default")


@pytest.fixture(scope="module")
def result():
    return baselines_result(documents=34)


def draw(name, result):
    return getattr(page, name)(result)._repr_mimebundle_()


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_a_specification_and_a_picture(name, result):
    bundle = draw(name, result)
    assert set(bundle) == {renderer.VEGALITE_MIME, "image/svg+xml"}
    assert bundle["image/svg+xml"].startswith("<svg")
    spec = bundle[renderer.VEGALITE_MIME]
    assert spec["title"]["text"].endswith("?")
    assert len(json.dumps(spec, ensure_ascii=False).encode()) < 300_000


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_has_at_most_500_rows(name, result):
    datasets = draw(name, result)[renderer.VEGALITE_MIME]["datasets"]
    assert sum(len(rows) for rows in datasets.values()) <= renderer.MAX_ROWS


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_the_same_every_time(name, result):
    first, second = draw(name, result), draw(name, baselines_result(documents=34))
    assert json.dumps(first[renderer.VEGALITE_MIME]) == json.dumps(second[renderer.VEGALITE_MIME])
    assert first["image/svg+xml"] == second["image/svg+xml"]


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_draws_one_document_and_one_objective(name):
    result = baselines_result(documents=1, units=2)
    for key in ("gains", "documents", "positions", "units", "uniform"):
        table = result.tables[key]
        result.tables[key] = table[table["objective"] != "reconstruction"]
    assert draw(name, result)["image/svg+xml"]


def test_the_explorer_shows_a_document_of_every_source_before_a_second_of_any(result):
    spec = draw("explorer", result)[renderer.VEGALITE_MIME]
    titles = [param["bind"]["options"] for param in spec["params"] if param["name"] == "document"]
    assert [title.partition(" ")[0] for title in titles[0]][:3] == ["go", "packages", "wikipedia"]


@given(st.lists(st.text(alphabet="ab \n\t\r\u00e9", max_size=30), min_size=1, max_size=80))
def test_every_token_has_a_place_inside_the_panel(pieces):
    shown, places = token_text.lay_out(pieces)
    assert len(shown) == len(places) == len(pieces)
    lines = [place // 1000 for place in places]
    assert lines == sorted(lines)
    assert max(lines) < token_text.LINES
    assert all(
        place % 1000 + len(text) <= token_text.COLUMNS
        for text, place in zip(shown, places, strict=True)
    )
    assert not any("\n" in text for text in shown)
