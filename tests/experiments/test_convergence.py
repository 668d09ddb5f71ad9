"""The convergence experiment on a tiny model and a folder of files: tables, page, bad input."""

import copy
import json

import altair as alt
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.environment import rollout
from ponderttt.errors import InputError
from ponderttt.experiments import convergence
from ponderttt.experiments.convergence import ConvergenceConfig, problems
from ponderttt.models import Reconstruction, ReconstructionLimit, TTTConfig, TTTLayer
from ponderttt.report.display import claims, renderer
from ponderttt.report.pages import convergence as page

CHARTS = ("rate_by_condition", "gap_by_steps", "gain_by_steps")


@pytest.fixture(scope="module")
def run(folder):
    """A result, and how many programs reading the documents was compiled to."""
    before = rollout._read_documents._cache_size()
    config = ConvergenceConfig(sources=(str(folder),), train_steps=2)
    result = convergence.run(config)
    assert config.dtype == "auto" and result.scalars["dtype"] == "float32"  # what was used
    return result, rollout._read_documents._cache_size() - before


def test_the_tables_agree_with_one_another_and_with_theory(run):
    result, programs = run
    outer, gains = result.tables["outer"], result.tables["gains"]
    assert len(outer) == 2 * len(gains)
    assert (gains["steps"] > 0).sum() == (gains["gain"] != 0).sum()
    mean = outer.groupby(["objective", "trained", "direction", "steps"])["loss"].mean()
    row = gains.set_index(["objective", "trained", "direction", "steps"])["gain"]
    still, moved = (("reconstruction", "K = 4", "descent", k) for k in (0, 2))
    assert row[moved] == pytest.approx(mean[still] - mean[moved], abs=1e-9)
    made = result.tables["made"].groupby(["condition", "problem"])[["measured", "theory"]].first()
    np.testing.assert_allclose(made["measured"], made["theory"], rtol=0.1)
    assert made["theory"].to_numpy() == pytest.approx(
        [-np.log(1 - 1 / c) for c, _ in made.index], rel=1e-3
    )
    assert "False" not in page.check(result) and "True" in page.check(result)
    # Seven for tuning (its actions, with and without a clip), and one for each kind of adapter
    # (next-token, with a norm, plain, limit) for all 38 ways to read, whatever K is.
    assert programs <= 11


def test_a_descent_is_the_spectrums_and_the_dual_form_is_its_first_step():
    descent = problems.descend(*problems.conditioned(5.0, 0), 30)
    np.testing.assert_allclose(descent.gap, descent.expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(descent.dual, descent.gap[1], rtol=1e-4)
    assert descent.condition == pytest.approx(5.0, rel=1e-3)
    assert problems.fitted_rate(0.8 ** np.arange(60)) == pytest.approx(0.8)


@pytest.fixture
def vegalite():
    renderer.enable()
    yield
    alt.renderers.enable("default")


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_a_small_specification_and_a_picture(run, vegalite, name):
    bundle = getattr(page, name)(run[0])._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg")
    spec = bundle[renderer.VEGALITE_MIME]
    assert spec["title"]["text"].endswith("?")
    assert sum(len(rows) for rows in spec["datasets"].values()) <= renderer.MAX_ROWS
    assert len(json.dumps(spec)) < 300_000


def test_the_sentences_stay_and_the_verdicts_turn_with_the_result(run):
    good, bad = copy.deepcopy(run[0]), copy.deepcopy(run[0])
    outer = good.tables["outer"]
    # K steps of descent gain K thousandths in every document, ascent loses them.
    sign = np.where(outer["direction"] == "descent", 1, -1)
    steps = outer["steps"].replace(np.inf, 32)
    noise = np.random.default_rng(0).normal(0, 1e-5, len(outer))
    outer["loss"] = 5 - 1e-3 * sign * steps + noise
    bad.tables["outer"]["loss"] = 10 - outer["loss"]
    bad.tables["made"]["measured"] *= 1.5
    found = [{c.sentence: c.verdict for c in page.claims(result)} for result in (good, bad)]
    assert found[0].keys() == found[1].keys()
    sentence = "next-token: K = 4 has lower test loss than K = 2."
    assert [f[sentence] for f in found] == [claims.SUPPORTED, claims.NOT_SUPPORTED]
    label = "reconstruction (trained at K = 1)"
    ascent = f"{label}: one step of ascent has lower test loss than no step."
    assert [f[ascent] for f in found] == [claims.NOT_SUPPORTED, claims.SUPPORTED]
    rate = "The fitted rate of convergence agrees with theory on synthetic problems."
    assert [f[rate] for f in found] == [claims.SUPPORTED, claims.NOT_SUPPORTED]
    assert "| limit |" in page.gains(good)


def test_the_limit_is_refused_where_there_is_none():
    adapter = ReconstructionLimit.of(TTTLayer(TTTConfig(16, head_dim=8, chunk_size=4)))
    assert isinstance(adapter, Reconstruction) and adapter.rule.rate == 1
    with pytest.raises(InputError, match="linear fast weights without a norm: use adapt"):
        adapter.gradient(None, {}, (None, None))
    plain = TTTLayer(TTTConfig(16, head_dim=8, chunk_size=4, norm=False))
    rates = problems.stable_rates(plain, np.ones((3, 4, 16), np.float32))
    assert rates.shape == (3, 2) and jnp.isfinite(rates).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k_values": [2, 4]}, "expected 1 and more of them, each once, ascending"),
        ({"k_values": [1, 4, 2]}, "ascending"),
        ({"k_values": [1, -2]}, "whole numbers of 1 or more"),
        ({"k_values": []}, "k_values is empty"),
        ({"conditions": [1.0]}, "conditions holds 1.0: expected numbers of 1.5 to 1000"),
        ({"conditions": 10.0}, r"conditions is 10.0: expected a list, such as \[10.0\]"),
        ({"units": 1}, "units is 1: expected 2 or more"),
        ({"model": "smollm"}, "unknown model 'smollm'"),
    ],
)
def test_bad_parameters_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        ConvergenceConfig(**change)
