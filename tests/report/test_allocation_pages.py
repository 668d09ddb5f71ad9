"""The gating and ppo_policy experiments on the tiny model: tables, pages, bad input."""

import copy
import dataclasses

import altair as alt
import numpy as np
import pandas as pd
import pytest

from ponderttt.errors import InputError
from ponderttt.experiments import gating, oracle, ppo_policy
from ponderttt.experiments.gating import GatingConfig
from ponderttt.experiments.oracle import OracleConfig
from ponderttt.experiments.ppo_policy import PPOPolicyConfig
from ponderttt.experiments.ppo_policy.tables import spread
from ponderttt.report.display import claims, renderer
from ponderttt.report.pages import gating as gating_page
from ponderttt.report.pages import oracle as oracle_page
from ponderttt.report.pages import ppo_policy as ppo_page

SMALL = {"streams": ("python",), "train_documents": 6, "test_documents": 3}
EXPERIMENTS = {"gating": gating, "ppo_policy": ppo_policy}
PAGES = {
    "gating": (gating_page, ("signals", "frontier", "gap_chart", "calibration", "drift")),
    "ppo_policy": (
        ppo_page, ("learning", "budget", "frontier", "gap_chart", "ablation", "strip")
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def results():
    return {
        "gating": gating.run(GatingConfig(**SMALL)),
        "ppo_policy": ppo_policy.run(PPOPolicyConfig(**SMALL)),
    }


@pytest.mark.parametrize(
    ("name", "chart"), [(name, chart) for name, (_, charts) in PAGES.items() for chart in charts]
)
def test_a_chart_is_a_small_specification_and_a_picture(results, name, chart):
    renderer.enable()
    bundle = getattr(PAGES[name][0], chart)(results[name])._repr_mimebundle_()
    alt.renderers.enable("default")
    assert bundle["image/svg+xml"].startswith("<svg")
    spec = bundle[renderer.VEGALITE_MIME]
    assert "?" in spec["title"]["text"]
    assert sum(len(rows) for rows in spec["datasets"].values()) <= renderer.MAX_ROWS


@pytest.mark.parametrize("name", PAGES)
def test_what_must_hold_holds(results, name):
    said = PAGES[name][0].check(results[name])
    assert "False" not in said and "True" in said
    assert "verdict" in PAGES[name][0].conclusions(results[name])


def test_tables_say_what_the_result_holds(results):
    gap = gating_page.gap_table(results["gating"])
    assert gap.count("\n| python |") == 2 * 7 and gap.count(" % [") > 7 and "<br>" not in gap
    for name, (page, _) in PAGES.items():
        ledgers = page.ledger_table(results[name])
        assert ledgers.count("| all ") == 4 and "| oracle |" in ledgers
        costs = results[name].tables["unit_costs"]
        assert costs["model"].is_monotonic_increasing and (costs["seconds"] > 0).all()
    budgets = ppo_page.budgets(results["ppo_policy"])
    assert budgets.count("\n| python |") == 3
    versus = ppo_page.versus(results["ppo_policy"])
    assert versus.count("\n| python |") == 2 * 3 and "<br>" not in budgets + versus
    history = results["ppo_policy"].tables["history"]
    assert len(history) == (3 + 1) * 2 * 4 and history["form"].nunique() == 2


def test_one_gap_is_one_number_with_one_interval_on_every_page(results):
    """Of the oracle over the control, and of PPO: claims and tables of all three experiments."""
    found = oracle.run(OracleConfig(**SMALL))
    pages = {"oracle": (oracle_page, found)} | {n: (PAGES[n][0], results[n]) for n in PAGES}
    stated = {
        name: [c.evidence for c in page.claims(result) if "the oracle has lower" in c.sentence]
        for name, (page, result) in pages.items()
    }
    assert stated["oracle"] == stated["gating"] == stated["ppo_policy"]
    best = found.tables["available"].query("source == 'all'")[["gain", "low", "high", "n"]]
    assert [tuple(row) for row in best.to_numpy()] == [tuple(each) for each in stated["oracle"]]
    for name in PAGES:
        gaps = results[name].tables["gaps"].query("method == 'oracle'")
        np.testing.assert_array_equal(gaps[["gain", "gain_low", "gain_high", "n"]], best)
    ppo = results["ppo_policy"].tables
    none = ppo["ablation"].query("without == 'none'")
    full = ppo["gaps"].merge(none[["stream", "budget"]]).query("method == 'PPO'")
    columns = ["share", "low", "high", "n"]
    np.testing.assert_array_equal(none[columns], full[columns])


@pytest.mark.parametrize("name", PAGES)
def test_what_follows_from_a_record_is_made_anew(results, name):
    made = {"gaps", "versus", "ablation"} & set(results[name].tables)
    kept = {key: table for key, table in results[name].tables.items() if key not in made}
    again = EXPERIMENTS[name].derive(dataclasses.replace(results[name], tables=kept))
    for key in made:
        pd.testing.assert_frame_equal(again.tables[key], results[name].tables[key])


def test_the_verdicts_turn_with_the_result(results):
    good, bad = (copy.deepcopy(results["ppo_policy"]) for _ in range(2))
    for one, sign in ((good, 1), (bad, -1)):
        table = one.tables["versus"]
        one.tables["versus"] = table.assign(gain=sign * 0.01, low=sign * 0.01, high=sign * 0.01)
        gaps = one.tables["gaps"]
        one.tables["gaps"] = gaps.assign(share=sign * 0.5, low=sign * 0.5, high=sign * 0.5)
        seeds = one.tables["seeds"]
        error = 0.01 if sign == 1 else 0.05
        one.tables["seeds"] = seeds.assign(trained_error=error, violations=int(sign < 0))
        table = one.tables["history"]
        wide = (table["form"] == "velocity") == (sign == 1)
        wobble = np.where(table["iteration"] % 2, 1.0, -1.0) * np.where(wide, 1.0, 0.1)
        one.tables["history"] = table.assign(violation=wobble * (1 + 0.01 * table["seed"]))
        one.tables["spread"] = spread(one.tables["history"])
    found = [{c.sentence: c.verdict for c in ppo_page.claims(one)} for one in (good, bad)]
    changing = [s for s in found[0] if "the oracle has lower" not in s]
    assert len(changing) == 3 + 6 + 3 + 1 + 1
    for sentence in changing:
        assert [f[sentence] for f in found] == [claims.SUPPORTED, claims.NOT_SUPPORTED]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"streams": ["mix"]}, "unknown stream 'mix'"),
        ({"budgets": [0.5]}, "a budget of 0.5 a unit: expected more than 1"),
        ({"budgets": [7.0]}, "off the cost curves: expected more than 1.5 and less than 6.8"),
        ({"units": 2}, "units is 2: expected 3 or more"),
        ({"iterations": 1}, "iterations is 1: expected 2 or more"),
        ({"seeds": 0}, "seeds is 0: expected 1 or more"),
        ({"rollout": 50}, "rollout is 50: expected a multiple of 12"),
        ({"test_documents": 2, "streams": ["mixed"]}, "test_documents is 2: expected 4 or more"),
    ],
)
def test_bad_parameters_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        PPOPolicyConfig(**change)
