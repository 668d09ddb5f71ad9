"""The token oracle's page: charts, verdicts and checks, of tables that are made."""

import copy
import dataclasses

import altair as alt
import numpy as np
import pandas as pd
import pytest
import yaml

from ponderttt.experiments import token_oracle
from ponderttt.experiments.token_oracle import tables
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.report.batch import notebooks
from ponderttt.report.display import claims, renderer
from ponderttt.report.pages import token_oracle as page
from ponderttt.report.pages.token_oracle.charts import by_difficulty
from ponderttt.result import Result
from ponderttt.storage import ROOT

ACTIONS = IterativeTransformerConfig(vocab_size=40, hidden_dim=16, num_heads=2).actions


@pytest.fixture(scope="module")
def result():
    """40 texts of 5 positions; K8 gains 0.1 nats, and 0.1 more for each nat of difficulty."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=200)
    loss = 5 + rng.normal(0, 0.01, (200, 4))
    loss[:, 3] -= 0.1 + 0.1 * difficulty
    tokens = pd.DataFrame(loss, columns=list(ACTIONS.names)).assign(
        difficulty=difficulty, document=np.repeat(np.arange(40), 5)
    )
    found = {
        "tokens": tokens,
        "token_optimal": tables.optimal(tokens, ACTIONS),
        "token_frontier": tables.frontier(tokens, ACTIONS),
        "token_difficulty": tables.difficulty(tokens, ACTIONS, seed=0),
    }
    config = {"horizon": 16, "train_steps": 6}
    return Result("token_oracle", config, found, {"positions": 200, "texts": 40})


@pytest.mark.parametrize("name", ["best_steps", "frontier", "correlations", by_difficulty])
def test_a_chart_is_a_small_specification_and_a_picture(result, name):
    renderer.enable()
    draw = getattr(page, name) if isinstance(name, str) else name
    bundle = draw(result)._repr_mimebundle_()
    alt.renderers.enable("default")
    assert bundle["image/svg+xml"].startswith("<svg")
    spec = bundle[renderer.VEGALITE_MIME]
    assert "?" in spec["title"]["text"]
    assert sum(len(rows) for rows in spec["datasets"].values()) <= renderer.MAX_ROWS


def test_the_checks_hold_and_find_what_does_not_fit(result):
    assert "False" not in page.check(result) and page.check(result).count("True") == 5
    broken = copy.deepcopy(result)
    broken.tables["token_frontier"]["oracle"] = -1.0
    broken.tables["token_optimal"]["share"] *= 2
    assert page.check(broken).count("False") == 2
    assert "200 positions of 40 texts" in page.options(result)


def test_the_verdicts_turn_with_the_result(result):
    assert [c.verdict for c in page.claims(result)] == [claims.SUPPORTED] * 3
    turned = copy.deepcopy(result)
    for name, effect in (("token_optimal", "gain"), ("token_difficulty", "rho")):
        table = turned.tables[name]
        table[[effect, "low", "high"]] = -table[[effect, "high", "low"]].to_numpy()
    assert [c.verdict for c in page.claims(turned)] == [claims.NOT_SUPPORTED] * 3
    assert "summed over the horizon" in page.conclusions(result)


def test_the_published_record_says_with_which_sizes_it_was_made():
    published = Result.load(ROOT / "book" / "results" / "token_oracle")
    config = token_oracle.CONFIG(**published.config)
    preset = notebooks.params_file("cpu", "token_oracle")
    assert dataclasses.asdict(config) == yaml.safe_load(preset.read_text())
    assert "False" not in page.check(published)
    asked = config.max_batches * config.batch_size * config.sample_positions
    assert published.scalars["positions"] == asked
    assert published.tables["token_optimal"]["documents"].eq(published.scalars["texts"]).all()
