"""Intervals at equal cost: one function makes them all, of documents that each count once."""

import numpy as np
import pandas as pd
import pytest

from ponderttt.allocation import equal_cost
from ponderttt.allocation.calibration import Outcome
from ponderttt.experiments.oracle.tables import available
from ponderttt.experiments.ppo_policy.tables import ablation, versus

PRICE = 0.02
SOURCES = np.repeat(["python", "go", "prose"], 8)


def _rows(method, *, budget=3.0, saved=0.0, spread=1.0, seed=0):
    """A method that moves cost between documents, and saves `saved` beside what that buys."""
    level = np.random.default_rng(9).normal(2.0, 0.5, len(SOURCES))
    rng = np.random.default_rng(seed)
    cost = rng.normal(0, spread, len(SOURCES))
    cost = budget + cost - cost.mean()
    loss = level - saved * rng.uniform(0.5, 1.5, len(SOURCES)) - PRICE * (cost - budget)
    priced = equal_cost.charged(Outcome(loss, cost, cost), budget, PRICE)
    return pd.DataFrame(
        {"stream": "mixed", "budget": budget, "method": method, "source": SOURCES}
        | {"document": np.arange(len(SOURCES)), "loss": loss, "cost": cost}
        | {"price": PRICE, "priced": priced, "gain": level - loss}
    )


@pytest.fixture
def documents():
    methods = {"bandit": 0.01, "PPO": 0.02, "one step": 0.03, "oracle": 0.04}
    frames = [_rows("control", spread=0.0)]
    frames += [_rows(name, saved=saved, seed=i) for i, (name, saved) in enumerate(methods.items())]
    return pd.concat(frames, ignore_index=True)


def _controls():
    return pd.DataFrame([{"stream": "mixed", "budget": 3.0, "chosen": True, "candidate": "it"}])


def test_one_gap_has_one_interval_in_every_table(documents):
    gaps = equal_cost.gaps(documents, seed=3).set_index("method")
    best = available(documents, _controls(), seed=3).set_index("source").loc["all"]
    stated = ["gain", "gain_low", "gain_high", "n"]
    assert gaps.loc["oracle", stated].tolist() == best[["gain", "low", "high", "n"]].tolist()
    ablated = pd.concat([_rows("text", saved=0.01, seed=7), _rows("history", saved=0.02, seed=8)])
    without = ablation(documents, ablated, seed=3).set_index("without")
    share = ["share", "low", "high", "n"]
    assert without.loc["none", share].tolist() == gaps.loc["PPO", share].tolist()
    assert without.loc["none", ["lost", "lost_low", "lost_high"]].tolist() == [0, 0, 0]
    rival = versus(documents, seed=3).set_index("method").loc["bandit"]
    assert rival[["gain", "low", "high", "n"]].tolist() == list(
        equal_cost.gain(documents, "PPO", "bandit", seed=3)
    )


def test_cost_that_is_moved_at_its_price_gains_nothing_on_any_resample(documents):
    moved = pd.concat([documents, _rows("moved", spread=2.0, seed=5)])
    found = equal_cost.gain(moved, "moved", "control", seed=0)
    np.testing.assert_allclose(found[:3], 0, atol=1e-12)
    assert moved[moved["method"] == "moved"]["loss"].std() > 0.01


def test_a_document_that_is_there_twice_counts_once(documents):
    """As two equal budgets in one configuration would have it."""
    twice = pd.concat([documents, documents], ignore_index=True)
    pd.testing.assert_frame_equal(
        equal_cost.gaps(twice, seed=0), equal_cost.gaps(documents, seed=0)
    )
    assert equal_cost.gaps(twice, seed=0)["n"].unique().tolist() == [len(SOURCES)]
    pd.testing.assert_frame_equal(versus(twice, seed=0), versus(documents, seed=0))
    once, double = (available(t, _controls(), seed=0) for t in (documents, twice))
    pd.testing.assert_frame_equal(once, double)


def test_the_gain_is_a_mean_over_sources_and_the_order_of_rows_does_not_matter(documents):
    priced = documents.pivot(index=["source", "document"], columns="method", values="priced")
    difference = (priced["control"] - priced["PPO"]).groupby("source").mean().mean()
    found = equal_cost.gain(documents, "PPO", "control", seed=0)
    assert found.mean == pytest.approx(difference)
    assert found == equal_cost.gain(
        documents.sample(frac=1, random_state=0), "PPO", "control", seed=0
    )
    there = equal_cost.gaps(documents, seed=0).set_index("method")
    assert there.loc["PPO", "share"] == pytest.approx(
        there.loc["PPO", "gain"] / there.loc["oracle", "gain"]
    )


def test_what_is_out_of_reach_has_no_interval_and_no_p(documents):
    documents.loc[documents["method"] == "bandit", "priced"] = np.nan
    row = equal_cost.gaps(documents, seed=0).set_index("method").loc["bandit"]
    assert row[["share", "low", "high", "gain", "gain_low", "p", "p_holm"]].isna().all()
