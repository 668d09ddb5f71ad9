"""What the search for an update rule chooses, of gains made up here; and what it refuses."""

import importlib
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from support.made_search import CONFIG, PLAN, STAGES, loaded, patched

from ponderttt.errors import InputError
from ponderttt.experiments import update_rules
from ponderttt.experiments.update_rules import config as configs
from ponderttt.experiments.update_rules.config import Plan, RuleName, UpdateRulesConfig
from ponderttt.experiments.update_rules.search import Search, grid, rounded
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.prepare import repository_reader
from ponderttt.prepare.recipes import Recipe
from ponderttt.prepare.repository_reader import RepositoryReader

run = importlib.import_module("ponderttt.experiments.update_rules.run")


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


# --- what it chooses, of gains made up here


def made_search(lm, gains, *, plan: Plan = PLAN, rules=("normalized", "rms"), blocks: int = 1):
    """A search whose recipes gain what `gains(recipe, split)` says on one repository."""
    config = UpdateRulesConfig(**{**CONFIG, "rules": rules, "blocks": blocks})
    search = Search(config, RepositoryReader(lm, Window(64)), [], [], 64.0)

    def measure(recipe, repositories, split):
        gain = gains(recipe, split)
        each = zip(("go", "packages"), (gain, gain), strict=True)
        rows = [{"source": source, "repository": "a", "gain": value} for source, value in each]
        return pd.DataFrame(rows).assign(label=recipe.label, split=split, diverged=-1)

    search.measure = measure
    return search


@pytest.fixture
def plan(monkeypatch):
    def use(**changed):
        monkeypatch.setitem(configs.PLANS, "smoke", PLAN._replace(**changed))

    use()
    return use


def test_the_best_in_training_need_not_win(lm, plan):
    def gains(recipe, split):
        return -recipe.rate if split == "validation" else recipe.rate

    search = made_search(lm, gains)
    winner = search.run()
    finalists = [trial for trial in search.trials if (trial["split"] == "validation").all()]
    rates = [search.recipes[trial["label"][0]][1].rate for trial in finalists]
    assert len(rates) == 3 and winner.rate == min(rates) < max(rates)


@pytest.mark.parametrize("finalists", [1, 2, 3, 4, 99])
def test_the_last_finalist_is_gentler_than_the_best(lm, plan, finalists):
    plan(finalists=finalists)
    search = made_search(lm, lambda recipe, split: 1.0)
    rates = [("rms", 9e-3), ("rms", 8e-3), ("rms", 7e-3), ("sgd", 1e-3), ("rms", 2e-3)]
    made = [Recipe(rule, rate, 0, 16) for rule, rate in rates]
    search.measure = lambda recipe, *_: pd.DataFrame(
        {"source": ["go"], "gain": [-made.index(recipe)], "label": recipe.label, "split": "train"}
    )
    search.try_all("rule", made)
    found = [search.recipes[label][1] for label in search.finalists()]
    places = {1: [0], 2: [0, 4], 3: [0, 1, 4], 4: [0, 1, 2, 4], 99: range(5)}
    assert found == [made[i] for i in places[finalists]]


def test_a_recipe_beyond_the_budget_is_never_read_on_validation(lm, plan):
    plan(flops_budget=0.5)
    search = made_search(lm, lambda recipe, split: float(recipe.suffix_blocks))
    winner = search.run()
    assert winner.suffix_blocks == 0  # all others run a block of two again
    read = {label for trial in search.trials for label in trial.query("split != 'train'")["label"]}
    assert {search.recipes[label][1].suffix_blocks for label in read} == {0}


@pytest.mark.parametrize("lost", [np.nan, -np.inf])
def test_what_is_not_finite_never_wins_and_no_stage_builds_on_it(lm, plan, lost):
    search = made_search(lm, lambda recipe, _: lost if recipe.rule == "normalized" else 0.01)
    assert search.run().rule in ("rms", "sgd")
    built = [r.rule for stage, r in search.recipes.values() if stage in ("low rank", "steps")]
    assert set(built) == {"rms"}


@pytest.mark.parametrize("sources", [["go", "packages"], ["go", "go"]])
def test_a_loss_on_one_repository_is_enough(lm, plan, sources):
    search = made_search(lm, lambda recipe, split: 1.0)
    best = Recipe("normalized", 0.1, 1, 16)
    search.try_all("rule", [best, Recipe("rms", 1e-3, 1, 16)])
    trial = search.trials[0]
    search.trials[0] = trial.assign(gain=[5.0, np.nan], source=sources)
    assert search.best_of(lambda recipe: True).rule == "rms"
    assert search.means("train")[best.label] == -np.inf


def test_where_nothing_is_finite_and_cheap_that_is_said(lm, plan):
    search = made_search(lm, lambda recipe, split: np.nan)
    with pytest.raises(InputError, match="no recipe that was tried stayed finite and adds at most"):
        search.run()


def test_recipes_that_are_the_same_are_tried_once(lm, plan):
    plan(depths=(1, 1, 2, 9), cadences=(4,), ranks=(4, 99, 99))
    search = made_search(lm, lambda recipe, split: recipe.rate)
    search.run()
    tried = [trial["label"][0] for trial in search.trials if trial["split"][0] == "train"]
    assert len(tried) == len(set(tried)) == len(search.recipes)
    assert {r.rank for stage, r in search.recipes.values() if stage == "low rank"} == {4, 16}
    assert {stage for stage, _ in search.recipes.values()} == {*STAGES} - {"cadence"}


def test_a_grid_is_a_factor_apart_about_its_centre():
    assert grid(0.1, 1) == [0.1] and grid(0.1, 2) == [0.1, 0.3]
    assert grid(3e-4, 3) == [1e-4, 3e-4, 9e-4]
    assert rounded(0.00028) == 3e-4


def test_a_plain_step_of_a_longer_cadence_is_shown_too(lm, plan, monkeypatch):
    """The test repositories are then grouped for it, whatever the winner's cadence is."""
    search = made_search(lm, lambda recipe, split: 0.0, rules=("normalized",))
    plain, winner = (Recipe("normalized", 0.1, 1, cadence) for cadence in (32, 16))
    for recipe, gain in ((plain, 2.0), (winner, 1.0)):
        search.measure = lambda *_, gain=gain, recipe=recipe: pd.DataFrame(
            {"source": ["go"], "gain": [gain], "label": recipe.label, "split": "train"}
        )
        search.try_all("rule", [recipe])
    assert run.chosen(search, winner) == {"chosen": winner, "normalized": plain}
    assert run.chosen(search, plain) == {"chosen": plain}
    asked = []
    monkeypatch.setattr(Search, "run", lambda self: winner)
    monkeypatch.setattr(run, "chosen", lambda *_: {"chosen": winner, "normalized": plain})

    def load(*_, split, size, **how):
        asked.append((split, size.unit, size.unit * size.units))
        if split == "test":
            raise KeyboardInterrupt
        return loaded(lm, ["go"], "validation"), {}

    monkeypatch.setattr(run, "load_kinds", load)
    with pytest.raises(KeyboardInterrupt):
        update_rules.run(UpdateRulesConfig(**CONFIG))
    assert asked == [("train", 32, 192), ("validation", 32, 192), ("test", 32, 192)]


# --- bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unit": 18}, "unit is 18: expected a multiple of 4"),
        ({"units": 11}, "units is 11: so many units of 16 tokens are no whole number"),
        ({"rules": ("nope",)}, "rules holds 'nope': expected some of sgd, normalized"),
        ({"plan": "nope"}, "unknown plan 'nope': expected smoke, quick or whole"),
        ({"sources": ("leads",)}, "sources holds leads alone, which are articles"),
        ({"sources": ("nowhere",)}, "nowhere"),
        ({"blocks": 0}, "blocks is 0"),
        ({"rules": ()}, "rules is empty"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(plan, options, said):
    with pytest.raises(InputError, match=said):
        UpdateRulesConfig(**{**CONFIG, **options})


def test_training_repositories_are_whole_cadences_too(plan):
    plan(search_units=11)
    with pytest.raises(InputError, match="search_units is 11"):
        UpdateRulesConfig(**CONFIG)


def test_a_folder_of_ones_own_is_refused(tmp_path, plan):
    (tmp_path / "a.py").write_text("a = 1\n" * 50)
    with pytest.raises(InputError, match="is one repository: what is tuned on it cannot be tested"):
        UpdateRulesConfig(**{**CONFIG, "sources": ("packages", str(tmp_path))})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 4096}, "a window of 4096 tokens: the model has positions for 2048"),
        ({"window": 48}, "a unit of 32 tokens does not divide the window of 48 tokens"),
        ({"blocks": 3}, "suffix_blocks is 3: tiny has 2 blocks"),
        ({"units": 40}, "has no validation repository of at least 20 units of 32 tokens"),
        ({"unit": 128, "units": 4, "window": 0}, "has no train repository of at least 6 units"),
    ],
)
def test_what_the_model_or_the_sources_have_not_is_said_before_anything_is_read(
    monkeypatch, options, said
):
    patched(monkeypatch)
    monkeypatch.setattr(repository_reader, "rollout", lambda *_, **how: pytest.fail("it reads"))
    monkeypatch.setattr(RepositoryReader, "states", lambda *_: pytest.fail("it reads"))
    with pytest.raises(InputError, match=said):
        update_rules.run(UpdateRulesConfig(**{**CONFIG, **options}))


def test_cheaper_iterations_buy_more_blocks(lm, plan):
    """At the depth of the best and as deep as the budget allows; what follows is affordable."""
    wide = Recipe("newton_schulz_1", 0.1, 2, 16).share(lm.config, 64)
    plan(flops_budget=wide, iterations=("newton_schulz_1", "newton_schulz_3"))
    search = made_search(
        lm, lambda recipe, split: float(recipe.suffix_blocks), rules=("newton_schulz",)
    )
    winner = search.run()
    tried = [recipe for stage, recipe in search.recipes.values() if stage == "iterations"]
    assert {(r.rule, r.suffix_blocks) for r in tried} == {
        ("newton_schulz_1", 1), ("newton_schulz_1", 2), ("newton_schulz_3", 1),
        ("newton_schulz", 1),
    }  # fmt: skip
    after = [r for stage, r in search.recipes.values() if stage == "steps"]
    assert {(r.rule, r.suffix_blocks) for r in after} == {("newton_schulz_1", 2)}
    assert winner.suffix_blocks == 2 and winner.share(lm.config, 64) <= wide


def test_cheaper_steps_can_be_asked_for_as_rules(lm, plan):
    """Every rule that a configuration takes has rates that are tried of it."""
    rules = get_args(RuleName)
    search = made_search(lm, lambda recipe, split: recipe.rate, rules=rules)
    search.run()
    assert {r.rule for stage, r in search.recipes.values() if stage == "rule"} == set(rules)
