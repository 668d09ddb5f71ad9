"""The search for an update rule: what it tries, on which repositories, and what it then chooses."""

import dataclasses
import importlib
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest
from support.made_search import CONFIG, PLAN, STAGES, loaded, patched

from ponderttt.environment.rollout import rollout
from ponderttt.evaluation.by_position import BINS
from ponderttt.evaluation.flops import forward_flops
from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.experiments import update_rules
from ponderttt.experiments.update_rules import tables
from ponderttt.experiments.update_rules.config import UpdateRulesConfig
from ponderttt.experiments.update_rules.search import Search, read_bins
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.prepare import repository_reader
from ponderttt.prepare.recipes import Recipe
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.result import Result

run = importlib.import_module("ponderttt.experiments.update_rules.run")
CODE = ("packages", "go")


def spied(patch, events: list, owner, name: str, said) -> None:
    """`owner.name` as it is, but what it is called with is told to `events` first."""
    call = getattr(owner, name)

    def spy(*args, **how):
        events.append((name, said(*args, **how)))
        return call(*args, **how)

    patch.setattr(owner, name, spy)


def tokens_of(_, document, *args, **how) -> bytes:
    return np.asarray(document.tokens).tobytes()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search that was killed in its middle, and then the whole of it; all that it called."""
    events, calls, cache = [], [], tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PONDERTTT_CACHE", str(cache))
        patched(patch)
        for name in ("rollout", "read_part"):
            spied(patch, calls, repository_reader, name, lambda *args, **how: len(calls))
        with pytest.MonkeyPatch.context() as killing:
            killed = repository_reader.rollout

            def kill(*args, **how):
                if len(calls) == 12:
                    raise KeyboardInterrupt  # before it computes: what it asks for is not kept
                return killed(*args, **how)

            killing.setattr(repository_reader, "rollout", kill)
            with pytest.raises(KeyboardInterrupt):
                update_rules.run(UpdateRulesConfig(**CONFIG))
        spied(patch, events, run, "load_kinds", lambda *args, split, **how: split)
        spied(patch, events, RepositoryReader, "read", tokens_of)
        spied(patch, events, RepositoryReader, "gather", tokens_of)
        result = update_rules.run(UpdateRulesConfig(**CONFIG))
        count, events = len(calls), list(events)
        again = update_rules.run(UpdateRulesConfig(**CONFIG))
        kept = [p for kind in ("episodes", "statistics") for p in (cache / kind).rglob("*.safet*")]
        yield SimpleNamespace(
            result=result, again=again, events=events, calls=(count, len(calls)), kept=kept
        )


@pytest.fixture(scope="module")
def result(found) -> Result:
    return found.result


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


# --- what is tried


def test_the_stages_come_in_order(result):
    recipes = result.tables["recipes"]
    assert list(dict.fromkeys(recipes["stage"])) == STAGES
    assert recipes.loc[recipes["stage"] == "rule", "rule"].tolist() == list(CONFIG["rules"])
    of = {stage: part for stage, part in recipes.groupby("stage")}
    assert of["pull"]["pull"].tolist() == [10] and of["pull"]["rule"].tolist() == ["rms"]
    assert set(of["depth"]["blocks"]) == {0, 2}  # all that there are
    assert set(of["low rank"]["rank"]) == {16}  # no wider than the narrowest projection
    assert set(of["cadence"]["cadence"]) == {32} and set(of["steps"]["steps"]) == {2}


def test_a_recipe_is_tried_once(result):
    recipes, trials = result.tables["recipes"], result.tables["trials"]
    assert recipes["label"].is_unique and len(recipes) > 12
    assert not trials.duplicated(["label", "split", "source", "repository"]).any()
    train = trials[trials["split"] == "train"]
    assert set(train["label"]) == set(recipes["label"])
    assert (train.groupby("label").size() == 2).all()


def test_the_variants_are_of_the_best_rule(result):
    recipes = result.tables["recipes"].set_index("label")
    first = recipes["stage"].isin(["rule", "pull"])
    best = train_means(result)[recipes.index[first]].idxmax()
    later = recipes[recipes["stage"].isin(["low rank", "cadence", "steps"])]
    assert set(later["rule"]) == {recipes["rule"][best]}


def train_means(result, split="train") -> pd.Series:
    trials = result.tables["trials"]
    by_source = trials[trials["split"] == split].groupby(["label", "source"])["gain"]
    return (
        by_source.agg(lambda x: x.sum(skipna=False) / len(x)).unstack().mean(axis=1, skipna=False)
    )


def test_a_rate_that_diverges_is_kept_with_its_unit_and_never_chosen(result, lm):
    recipes, trials = result.tables["recipes"], result.tables["trials"]
    lost = trials[trials["diverged"] >= 0]
    label = "adamw 3e+38; MLP outputs, 1 block; a step per 16"
    assert set(lost["label"]) == {label} and set(lost["split"]) == {"train"}
    assert (lost["diverged"] >= 1).all()  # the first unit is met with nothing learned
    assert not np.isfinite(lost["gain"]).any()
    assert np.isfinite(trials.loc[trials["diverged"] < 0, "gain"]).all()
    row = recipes.set_index("label").loc[label]
    assert not row["chosen"] and row["shown"] == ""
    assert result.tables["search"].query("label == @label")["gain"].isna().all()


def test_the_budget_is_kept_and_validation_decides(result):
    recipes = result.tables["recipes"].set_index("label")
    within = train_means(result)[recipes.index[recipes["share"] <= PLAN.flops_budget]]
    ranked = within.dropna().sort_values(ascending=False).index
    best, rest = recipes.loc[ranked[0]], recipes.loc[ranked[2:]]
    gentle = rest[(rest["rule"] == best["rule"]) & (rest["rate"] < best["rate"] / 2)]
    finalists = [*ranked[:2], gentle.index[0] if len(gentle) else rest.index[0]]
    validation = train_means(result, "validation")
    assert set(validation.index) == set(finalists) and len(finalists) == 3
    assert recipes.index[recipes["chosen"]].tolist() == [validation.idxmax()]
    assert result.scalars["winner"] == validation.idxmax()
    assert result.scalars["winner_share"] == recipes["share"][validation.idxmax()]
    assert (recipes["share"] > PLAN.flops_budget).any()


# --- what is read for it


def test_test_repositories_are_not_read_before_there_is_a_winner(found, lm):
    calls = found.events
    loads = [i for i, (name, _) in enumerate(calls) if name == "load_kinds"]
    assert [calls[i][1] for i in loads] == ["train", "validation", "test"]
    assert all(name == "load_kinds" for name, _ in calls[:2])
    before = {said for name, said in calls[: loads[2]] if name != "load_kinds"}
    after = {said for name, said in calls[loads[2] :] if name == "read"}
    assert before and after and not before & after
    documents = [
        {np.asarray(each.document.tokens).tobytes() for each in loaded(lm, sources, split, **how)}
        for split, sources, how in (
            ("train", CODE, {}),
            ("validation", CODE, {}),
            ("test", (*CODE, "leads"), {"count": 2, "unit": 16, "units": 12}),
        )
    ]
    assert before == documents[0] | documents[1]
    assert after == documents[2]


def test_statistics_are_those_of_training_repositories_alone(found, lm):
    training = loaded(lm, ("packages", "go"), "train")
    known = {np.asarray(each.document.tokens).tobytes() for each in training}
    gathered = {said for name, said in found.events if name == "gather"}
    assert gathered == known and len(known) == 2


def test_statistics_of_several_repositories_are_added(lm):
    config = UpdateRulesConfig(**CONFIG)
    training = loaded(lm, ("packages",), "train", count=2, units=4)
    search = Search(config, RepositoryReader(lm, Window(64)), training, [], 64.0)
    recipe = Recipe("rms_sum", 1e-4, 1, 16)
    assert search.statistics(dataclasses.replace(recipe, rule="rms")) is None
    both = search.statistics(recipe)
    each = [
        search.reader.gather(part.regroup(16).document, Recipe("sgd", 1.0, 1, 16).adapter())
        for part in training
    ]
    expected = jax.tree.map(lambda *x: sum(map(np.asarray, x)), *each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), both, expected)


def test_gains_at_another_cadence_are_of_the_same_tokens(lm):
    repository = loaded(lm, ("go",), "test")[0]
    reader = RepositoryReader(lm, Window(64))
    bins = {}
    for cadence in (32, 16):
        recipe = Recipe("rms", 1e-3, 1, cadence)
        bins[cadence], diverged = read_bins(reader, repository, recipe, recipe.adapter())
        assert diverged == -1
        document = repository.regroup(cadence).document
        losses = rollout(
            lm, recipe.adapter(), recipe.policy, document, key=jax.random.key(0),
            window=Window(64), dispatch="switch",
        ).token_nll  # fmt: skip
        mask = document.mask.ravel()
        whole = bins[cadence].sum()
        assert whole["tokens"] == mask.sum()
        np.testing.assert_allclose(
            whole["loss"], np.asarray(losses, float).ravel()[mask].sum(), rtol=1e-5
        )
    base = {cadence: each["loss"] + each["gain"] for cadence, each in bins.items()}
    assert bins[16]["tokens"].equals(bins[32]["tokens"])
    np.testing.assert_allclose(base[16], base[32], rtol=1e-6)
    assert (bins[16]["gain"] != bins[32]["gain"]).any()


# --- what the tables say


def test_every_number_of_a_document_is_that_of_its_bins(result):
    bins, documents = result.tables["bins"], result.tables["documents"]
    assert len(documents) == len(bins) / BINS and (documents["diverged"] == -1).all()
    for row in documents.to_dict("records"):
        part = bins
        for key in ("source", "repository", "label", "shown"):
            part = part[part[key] == row[key]]
        assert part["bin"].tolist() == list(range(BINS))
        tokens, loss, gain = (part[name].to_numpy() for name in ("tokens", "loss", "gain"))
        assert row["tokens"] == tokens.sum()
        assert row["loss"] == pytest.approx(loss.sum() / tokens.sum())
        assert row["gain"] == pytest.approx(gain.sum() / tokens.sum())
        for i, name in enumerate(("first", "second", "last")):
            third = slice(4 * i, 4 * i + 4)
            assert row[f"gain_{name}"] == pytest.approx(gain[third].sum() / tokens[third].sum())


def test_gains_are_means_of_documents_and_articles_stand_by_themselves(result):
    documents, gains = result.tables["documents"], result.tables["gains"]
    for shown, own in gains.groupby("shown"):
        assert own["source"].tolist() == ["packages", "go", "all", "leads"]
        own = own.set_index("source")
        for column in ("gain", "gain_first", "gain_last"):
            of = documents[documents["shown"] == shown].groupby("source")[column]
            low, high = (f"{name}{column[4:]}" for name in ("low", "high"))
            for source in ("packages", "go", "leads"):
                values = of.get_group(source).to_numpy()
                expected = cluster_interval([values], seed=0)
                assert tuple(own.loc[source, [column, low, high]]) == pytest.approx(expected[:3])
                assert own.loc[source, "n"] == len(values) == 2
            both = [of.get_group(source).to_numpy() for source in ("packages", "go")]
            expected = cluster_interval(both, seed=0)
            assert tuple(own.loc["all", [column, low, high]]) == pytest.approx(expected[:3])


def test_positions_are_of_code_and_sources_weigh_alike(result):
    bins, positions = result.tables["bins"], result.tables["positions"]
    code = bins[bins["source"] != "leads"].assign(gain=lambda t: t["gain"] / t["tokens"])
    each = code.groupby(["shown", "bin", "source"])["gain"].mean().groupby(["shown", "bin"]).mean()
    found = positions.set_index(["shown", "bin"])
    assert len(found) == len(each) and (found["n"] == 4).all()
    pd.testing.assert_series_equal(found["gain"].sort_index(), each, check_names=False)


def test_stability_counts_what_loses_and_what_diverged(result):
    documents = result.tables["documents"]
    for row in result.tables["stability"].to_dict("records"):
        own = documents[documents["shown"] == row["shown"]]
        assert row["repositories"] == len(own) == 6
        assert row["lose"] == (own["gain"] < 0).sum() and row["diverged"] == 0
        worst = own.loc[own["gain"].idxmin()]
        assert row["smallest"] == worst["gain"]
        assert row["of"] == f"{worst['source']}: {worst['repository']}"


def test_a_document_that_diverged_is_the_worst_and_leaves_no_mean(result):
    """Of tables made from the same bins, one document of which is lost at its fourth unit."""
    bins = result.tables["bins"].copy()
    first = (bins["source"] == "go") & (bins["shown"] == "chosen")
    lost = first & (bins["repository"] == bins[first]["repository"].iloc[0]) & (bins["bin"] > 3)
    bins.loc[lost, ["loss", "gain"]] = np.nan
    order = bins.drop_duplicates(["source", "repository", "label", "shown"]).index
    diverged = [4 if lost[i + BINS - 1] else -1 for i in order]
    found = tables.tested(bins, diverged, seed=0)
    chosen = found["stability"].set_index("shown").loc["chosen"]
    assert chosen["diverged"] == 1 and np.isnan(chosen["smallest"])
    assert chosen["of"].startswith("go: ")
    gains = found["gains"].set_index(["shown", "source"])["gain"]
    assert gains["chosen"][["go", "all"]].isna().all() and gains["chosen"].notna().sum() == 2
    positions = found["positions"].query("shown == 'chosen'")
    assert positions["gain"].isna().tolist() == [False] * 4 + [True] * 8


def test_shares_and_seconds(result, lm):
    recipes, seconds = result.tables["recipes"], result.tables["seconds"]
    keys = result.scalars["keys"]
    assert 16 < keys < 16 + 64
    for row in recipes.to_dict("records"):
        rank, pull = row["rank"] or None, None if np.isnan(row["pull"]) else row["pull"]
        recipe = Recipe(
            row["rule"], row["rate"], row["blocks"], row["cadence"], row["steps"], rank, pull
        )
        assert recipe.label == row["label"] and recipe.where == row["where"]
        assert row["share"] == recipe.share(lm.config, keys)
        assert row["read"] == recipe.flops(lm.config, keys).read / forward_flops(lm.config, keys)
    shown = recipes[recipes["shown"] != ""].set_index("shown")["label"]
    assert dict(zip(seconds["shown"], seconds["label"], strict=True)) == shown.to_dict()
    assert (seconds[["forward", "still", "learning"]] > 0).all(axis=None)


def test_what_is_shown_is_the_winner_and_the_best_plain_step(result):
    recipes = result.tables["recipes"].set_index("label")
    shown = recipes[recipes["shown"] != ""]["shown"]
    assert shown[result.scalars["winner"]] == "chosen"
    cheap = recipes["share"] <= result.scalars["flops_budget"]
    plain = train_means(result)[recipes.index[cheap & (recipes["rule"] == "normalized")]].idxmax()
    if plain != result.scalars["winner"]:
        assert shown[plain] == "normalized"
    assert set(result.tables["bins"]["label"]) == set(shown.index)


def test_the_record_and_the_meanings_name_the_same_tables(result, tmp_path):
    assert set(result.tables) == set(update_rules.MEANINGS)
    result.save(tmp_path)
    assert Result.load(tmp_path).scalars == result.scalars


def test_a_run_that_was_killed_goes_on_without_reading_again(found):
    count, all_calls = found.calls
    # Every call kept one value, the killed run's too, and no value was made twice.
    assert len(found.kept) == count > 30
    assert all_calls == count
    for name, rows in found.result.tables.items():
        if name != "seconds":
            pd.testing.assert_frame_equal(rows, found.again.tables[name])
