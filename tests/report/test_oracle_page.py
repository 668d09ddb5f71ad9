"""The oracle experiment on the tiny model: tables, page, bad input."""

import copy
import dataclasses

import altair as alt
import numpy as np
import pandas as pd
import pytest

from ponderttt.errors import InputError
from ponderttt.experiments import oracle
from ponderttt.experiments.oracle import OracleConfig
from ponderttt.report.display import claims, renderer
from ponderttt.report.pages import oracle as page

CHARTS = ("frontier", "gain_by_document", "allocation", "who_gains")


@pytest.fixture(scope="module")
def result():
    return oracle.run(
        OracleConfig(streams=("python",), budgets=(2.0, 3.125), train_documents=4, test_documents=2)
    )


def test_the_tables_agree_with_one_another(result):
    documents, available = result.tables["documents"], result.tables["available"]
    assert len(documents) == 3 * 2 * 2
    row = available.set_index(["budget", "source"]).loc[(2.0, "all")]
    part = documents[documents["budget"] == 2.0].groupby("method")[["loss", "cost"]].mean()
    gain = part.loc["control", "loss"] - part.loc["oracle", "loss"]
    assert row["gain"] == pytest.approx(gain, abs=1e-9)
    assert row["oracle_gain"] - row["control_gain"] == pytest.approx(gain, abs=1e-9)
    assert part["cost"].to_numpy() == pytest.approx(2.0)  # the stated budget, all of them
    # The frontier holds every action's own point, and starts at SKIP.
    frontier = result.tables["frontier"].set_index("method")
    start = frontier.loc["oracle"].query("budget == 1.0")["loss"].iloc[0]
    assert start == pytest.approx(frontier.loc["SKIP", "loss"], abs=1e-5)
    assert "False" not in page.check(result) and "True" in page.check(result)


def test_what_follows_from_the_record_is_made_anew(result):
    kept = {name: table for name, table in result.tables.items() if name != "available"}
    again = oracle.derive(dataclasses.replace(result, tables=kept))
    pd.testing.assert_frame_equal(again.tables["available"], result.tables["available"])
    kept["documents"] = kept["documents"].drop(columns="priced")
    with pytest.raises(InputError, match="from an older version, run its notebook again"):
        oracle.derive(dataclasses.replace(result, tables=kept))


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_a_small_specification_and_a_picture(result, name):
    renderer.enable()
    bundle = getattr(page, name)(result)._repr_mimebundle_()
    alt.renderers.enable("default")
    assert bundle["image/svg+xml"].startswith("<svg")
    spec = bundle[renderer.VEGALITE_MIME]
    assert "?" in spec["title"]["text"]
    assert sum(len(rows) for rows in spec["datasets"].values()) <= renderer.MAX_ROWS


def test_the_verdicts_turn_with_the_result(result):
    good, bad = copy.deepcopy(result), copy.deepcopy(result)
    for one, sign in ((good, 1), (bad, -1)):
        table = one.tables["documents"]
        noise = np.random.default_rng(0).normal(0, 1e-4, len(table) // 3)
        control, ahead, best = (table["method"] == m for m in ("control", "one step", "oracle"))
        level = table.loc[control, "priced"].to_numpy()
        table.loc[best, "priced"] = level - sign * 0.01 + noise
        table.loc[ahead, "priced"] = level + noise
    found = [{c.sentence: c.verdict for c in page.claims(one)} for one in (good, bad)]
    sentences = [s for s in found[0] if "lower test loss than the best open-loop" in s]
    ahead = [s for s in found[0] if "one-step lookahead has no higher" in s]
    assert len(sentences) == len(ahead) == 2
    for sentence in sentences:
        assert [f[sentence] for f in found] == [claims.SUPPORTED, claims.NOT_SUPPORTED]
    for sentence in ahead:
        assert [f[sentence] for f in found] == [claims.NOT_SUPPORTED, claims.SUPPORTED]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"streams": ["mix"]}, "unknown stream 'mix': expected one of mixed, python, shifted"),
        ({"streams": ["python", "python"]}, "streams holds 'python' twice: expected each once"),
        ({"budgets": [1.0]}, "a budget of 1.0 a unit: expected more than 1"),
        ({"budgets": [10.0]}, "at most 9.25, that of always taking UPDATE_4 in 4 units"),
        ({"units": 7}, "units is 7: every allocation of a document is evaluated, expected 2 to 6"),
        (
            {"units": 2.5},
            "units is 2.5: expected a whole number of 2 to 6",
        ),
        ({"train_documents": 3}, "train_documents is 3: expected 4 or more"),
        ({"model": "gpt3"}, "unknown model 'gpt3'"),
    ],
)
def test_bad_parameters_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        OracleConfig(**change)
