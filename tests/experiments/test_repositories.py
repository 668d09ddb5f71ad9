"""The repositories experiment: every condition against reading it by itself, and its tables."""

import dataclasses
import importlib

import jax
import numpy as np
import pandas as pd
import pytest
from support.made_repository import made_repository

from ponderttt.environment.rollout import rollout
from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.experiments.repositories import tables
from ponderttt.experiments.repositories.conditions import (
    BASE,
    BOTH,
    CACHE,
    CARRIED,
    NOTHING,
    OTHER,
    OWN,
    PLAIN,
    RESET,
    SHUFFLED,
    Conditions,
    Mixture,
    mixed,
    read_conditions,
    short_windows,
    tuned_mixture,
)
from ponderttt.experiments.repositories.config import MIXING, SHARPNESS, RepositoriesConfig
from ponderttt.experiments.repositories.run import contrasts, halves
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import UniformPolicy
from ponderttt.prepare.repositories import joined, shuffled
from ponderttt.prepare.repository_reader import RepositoryReader

run = importlib.import_module("ponderttt.experiments.repositories.run")

WINDOW = Window(8)
MADE = made_repository(spare=1)
# As many units as it has: programs are compiled once.
EVEN = made_repository((14, 13, 15), name="even")
OTHERS = [
    made_repository((9, 14, 15), name="b", seed=1),
    made_repository((20, 21), name="c", seed=2),
]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
DEPTHS = pytest.mark.parametrize("depth", [0, 1])


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


def conditions(lm, depth: int = 1, **options) -> Conditions:
    config = RepositoriesConfig(unit=4, units=11, window=8, rate=0.01, blocks=depth, **options)
    return Conditions(RepositoryReader(lm, WINDOW), config)


def losses_of(made: Conditions, repository, policy=None, reset="repository", window=WINDOW):
    """Of the rollout of a document, whatever it is put together from; states are its own."""
    recipe = made.config.recipe
    return np.asarray(
        rollout(
            made.reader.lm, recipe.adapter(), policy or recipe.policy, repository.document,
            key=jax.random.key(0), dispatch="switch", window=window, reset=reset,
        ).token_nll[0]
    )  # fmt: skip


def real(repository) -> np.ndarray:
    return np.asarray(repository.document.mask[0])


# --- conditions


@DEPTHS
def test_the_base_is_the_recipe_that_never_steps(lm, depth):
    made = conditions(lm, depth)
    found, skipped = made.base(MADE), losses_of(made, MADE, UniformPolicy("SKIP"))
    np.testing.assert_allclose(found[real(MADE)], skipped[real(MADE)], **CLOSE)
    assert found.shape == MADE.document.tokens.shape[1:]


@DEPTHS
def test_carried_is_one_run_and_reset_each_file_read_alone(lm, depth):
    made = conditions(lm, depth)
    carried, fresh = made.learned(EVEN), made.learned(EVEN, reset="file")
    np.testing.assert_allclose(carried, losses_of(made, EVEN), **CLOSE)
    for i, span in enumerate(EVEN.files):
        at = slice(span.first_unit, span.first_unit + span.units)
        alone = EVEN.units(at)
        np.testing.assert_allclose(
            fresh[at][real(alone)], losses_of(made, alone)[real(alone)], **CLOSE
        )
        assert (np.abs(carried[at] - fresh[at])[real(alone)].max() > 1e-5) == (i > 0)


@DEPTHS
def test_shuffled_losses_are_put_back_in_place(lm, depth):
    made = conditions(lm, depth)
    moved, order = shuffled(MADE, made.config.seed)
    assert (order != np.arange(len(order))).any()
    elsewhere, found = losses_of(made, moved), made.shuffled(MADE)
    tokens = np.asarray(MADE.document.tokens[0])
    for place, unit in enumerate(order):
        assert (np.asarray(moved.document.tokens[0, place]) == tokens[unit]).all()
        kept = real(MADE)[unit]
        np.testing.assert_allclose(found[unit][kept], elsewhere[place][kept], **CLOSE)
    assert np.abs(found - made.learned(MADE))[real(MADE)].max() > 1e-4


@DEPTHS
def test_the_second_half_after_nothing_and_after_another_repository(lm, depth):
    made, middle = conditions(lm, depth), MADE.middle()
    half = MADE.units(slice(middle, None))
    mask = real(half)
    alone = made.second_half(MADE, None)
    np.testing.assert_allclose(alone[mask], losses_of(made, half)[mask], **CLOSE)
    for other in OTHERS:  # one ends with a file there, of the other one is cut
        found = made.second_half(MADE, other)
        both = joined(other.units(slice(0, middle)), half)
        np.testing.assert_allclose(found[mask], losses_of(made, both)[middle:][mask], **CLOSE)
        assert found.shape == alone.shape == half.document.tokens.shape[1:]
        assert np.abs(found - alone)[mask].max() > 1e-5
    own = joined(MADE.units(slice(0, middle)), half)
    np.testing.assert_allclose(made.learned(MADE)[middle:], losses_of(made, own)[middle:], **CLOSE)


def test_every_condition_that_covers_the_whole_repository(lm):
    made, mixture = conditions(lm), Mixture(8.0, 0.2)
    found = read_conditions(made, MADE, mixture, contrasted=False)
    assert list(found) == [BASE, CARRIED, RESET, CACHE, BOTH]
    cache = made.cache(MADE)[SHARPNESS.index(8.0)].ravel()
    mask = real(MADE).ravel()
    for name, model in ((CACHE, BASE), (BOTH, CARRIED)):
        expected = 0.8 * np.exp(-found[model].astype(float)) + 0.2 * np.exp(-cache.astype(float))
        np.testing.assert_allclose(np.exp(-found[name])[mask], expected[mask], rtol=1e-5)
    more = read_conditions(made, MADE, mixture, contrasted=True)
    assert list(more) == [*found, PLAIN, SHUFFLED]
    plain = made.config.plain
    assert (plain.rule, plain.rate) == ("normalized", 0.1)
    np.testing.assert_array_equal(more[PLAIN], made.learned(MADE, plain).ravel())
    assert len({losses[mask].tobytes() for losses in more.values()}) == len(more)


def test_windows_of_a_quarter_and_the_whole(lm):
    config = RepositoriesConfig(unit=4, units=11, window=16, rate=0.01)
    made = Conditions(RepositoryReader(lm, Window(16)), config)
    found = short_windows(made, MADE)
    assert list(found) == [(4, False), (4, True), (16, False), (16, True)]
    for (window, learns), losses in found.items():
        policy = None if learns else UniformPolicy("SKIP")
        expected = losses_of(made, MADE, policy, window=Window(window))
        np.testing.assert_allclose(losses[real(MADE)], expected[real(MADE)], **CLOSE)
    np.testing.assert_array_equal(found[16, True], made.learned(MADE))


# --- the cache beside a model


@pytest.mark.parametrize("share", MIXING)
def test_a_mixture_is_one_of_probabilities(share):
    draw = np.random.default_rng(0)
    losses, cache = draw.exponential(4, (2, 500))
    expected = -np.log((1 - share) * np.exp(-losses) + share * np.exp(-cache))
    np.testing.assert_allclose(mixed(losses, cache, share), expected, rtol=1e-12)
    single = mixed(losses.astype(np.float32), cache.astype(np.float32), share)
    np.testing.assert_allclose(single, expected, rtol=1e-5)


def test_a_mixture_has_limits_and_may_meet_what_it_never_saw():
    losses, cache = np.array([1.0, 2.0, np.inf, np.inf]), np.array([0.5, np.inf, 3.0, np.inf])
    np.testing.assert_array_equal(mixed(losses, cache, 0.0), losses)
    np.testing.assert_array_equal(mixed(losses, cache, 1.0), cache)
    found = mixed(losses, cache, 0.2)
    assert found[1] == pytest.approx(2 - np.log(0.8)) and found[2] == pytest.approx(3 - np.log(0.2))
    assert np.isinf(found[3]) and not np.isnan(found).any()
    np.testing.assert_allclose(mixed(np.array([800.0]), np.array([900.0]), 0.5), 800 + np.log(2))


class Given(Conditions):
    """Conditions whose losses are given: the cache helps at one sharpness alone."""

    def __init__(self, best: float, helped: set[str]):
        object.__setattr__(self, "best", best)
        object.__setattr__(self, "helped", helped)

    def base(self, repository):
        return np.full(repository.document.tokens.shape[1:], 3.0, np.float32)

    def cache(self, repository):
        good = 0.5 if repository.name in self.helped else 9.0
        shape = (len(SHARPNESS), *repository.document.tokens.shape[1:])
        found = np.full(shape, 9.0, np.float32)
        found[SHARPNESS.index(self.best)] = good
        found[:, ~real(repository)] = -50.0  # whatever stands in padding
        return found


def test_the_best_setting_on_training_is_chosen_and_sources_weigh_alike():
    best, rows = tuned_mixture(Given(16.0, {"made"}), [MADE])
    assert best == Mixture(16.0, 0.3) and len(rows) == len(SHARPNESS) * len(MIXING)
    assert [row["chosen"] for row in rows].count(True) == 1
    for row in rows:
        good = 0.5 if row["sharpness"] == 16 else 9.0
        share = row["share"]
        expected = 3 + np.log((1 - share) * np.exp(-3) + share * np.exp(-good))
        assert row["gain"] == pytest.approx(expected, abs=1e-5)
    # Two of one source that lose do not outweigh one of another that gains.
    one = dataclasses.replace(MADE, source="alone")
    best, _ = tuned_mixture(Given(16.0, {"made"}), [*OTHERS, one])
    assert best == Mixture(16.0, 0.3)
    best, _ = tuned_mixture(Given(16.0, set()), [*OTHERS, one])
    assert best.share == min(MIXING)


# --- kinds of tokens


def slow_kinds(repository, bos: int = 256) -> np.ndarray:
    """Of each token of a repository, where it followed its predecessor before, in sets."""
    tokens, mask = (np.asarray(x[0]) for x in repository.document[:2])
    ever, found = set(), np.full(tokens.size, "", dtype=object)
    for span in repository.files:
        here, before = set(), bos
        for i in range(span.tokens):
            at = span.first_unit * tokens.shape[1] + i
            assert mask.ravel()[at]
            pair = (before, int(tokens.ravel()[at]))
            found[at] = (
                tables.HERE if pair in here else tables.BEFORE if pair in ever else tables.NEVER
            )
            here.add(pair)
            ever.add(pair)
            before = pair[1]
    return found


@pytest.mark.parametrize("symbols", [2, 4, 257])
def test_kinds_are_those_of_sets_of_pairs(symbols):
    repository = made_repository((10, 3, 16, 6, 30), symbols=symbols, spare=2)
    found = tables._seen(repository, 257)
    assert found.tolist() == slow_kinds(repository).tolist()


def read_made(repositories_, seed: int = 0, lost: str = "") -> tables.Losses:
    """Losses drawn for each repository; weights that are carried diverge on `lost`."""
    draw, by_condition = np.random.default_rng(seed), {}
    for repository in repositories_:
        size = repository.document.tokens.size
        base = draw.normal(5, 1, size)
        by_condition[repository.title] = {
            BASE: base,
            CARRIED: base - draw.normal(0.1, 0.2, size),
            RESET: base - draw.normal(0.05, 0.2, size),
            CACHE: base - 0.2,
            BOTH: base - 0.3,
        }
        if repository.name == lost:
            by_condition[repository.title][CARRIED][20:] = np.nan
    return tables.Losses(list(repositories_), by_condition, 257)


FEW = made_repository((10, 3, 16, 6), symbols=3, name="few", spare=1)
MORE = dataclasses.replace(made_repository((30, 12), symbols=3, name="more", seed=1), source="go")
PROSE = dataclasses.replace(made_repository((40,), name="text", seed=2), source="wikipedia")


def test_shares_and_gains_of_kinds_are_those_of_their_tokens():
    read = read_made([FEW, MORE, PROSE])
    found = tables.kinds(read, seed=0).set_index("kind")
    for name in (tables.HERE, tables.BEFORE, tables.NEVER):
        share, gain, of_all, loss = [], [], [], []
        for repository in (FEW, MORE):  # articles have no earlier files
            taken, losses = slow_kinds(repository) == name, read.by_condition[repository.title]
            won = losses[BASE] - losses[CARRIED]
            share.append(taken.sum() / real(repository).sum())
            gain.append(won[taken].mean())
            of_all.append(won[taken].sum() / real(repository).sum())
            loss.append(losses[BASE][taken].mean())
        expected = map(np.mean, (share, gain, of_all, loss))
        row = found.loc[name, ["share", "gain", "of_all", "loss"]].astype(float)
        np.testing.assert_allclose(row, list(expected))
        assert found.loc[name, "n"] == 2
    assert found["share"].sum() == pytest.approx(1)


def test_a_kind_that_a_repository_has_not_has_no_share_of_it():
    one = dataclasses.replace(made_repository((30,), symbols=3, name="one"), source="go")
    found = tables.kinds(read_made([FEW, one]), seed=0).set_index("kind")
    assert found["share"].sum() == pytest.approx(1)
    assert found.loc[tables.BEFORE, "n"] == 1 and np.isfinite(found["gain"]).all()


# --- tables


def test_files_hold_all_tokens():
    read = read_made([FEW, MORE, PROSE])
    found = tables.files(read)
    assert found["tokens"].sum() == read.tokens_read == sum(real(r).sum() for r, _ in read)
    for row in found.to_dict("records"):
        repository = next(r for r, _ in read if r.name == row["repository"])
        span, unit = repository.files[row["file"]], repository.document.tokens.shape[-1]
        assert (row["path"], row["first_unit"], row["units"]) == span[:3]
        at = span.first_unit * unit + np.arange(span.tokens)
        assert real(repository).ravel()[at].all()
        for condition, losses in read.by_condition[repository.title].items():
            assert row[condition] == pytest.approx(losses[at].mean())


def test_gains_and_pairs_are_those_of_the_bins():
    second = [dataclasses.replace(each, name="again") for each in (FEW, MORE)]
    read = read_made([FEW, MORE, *second, PROSE])
    bins = tables.bins(read)
    found = tables.gains(bins, seed=3)
    sums = bins.groupby(["condition", "source", "repository"])[["tokens", "gain"]].sum()
    gain = sums["gain"] / sums["tokens"]
    documents = found["documents"].set_index(["condition", "source", "repository"])
    pd.testing.assert_series_equal(documents["gain"].sort_index(), gain, check_names=False)
    rows = found["gains"].set_index(["source", "condition", "part"])
    for condition in (BASE, CARRIED, RESET):
        of = gain[condition]
        expected = cluster_interval([of["made here"].to_numpy(), of["go"].to_numpy()], seed=3)
        assert rows.loc[("all", condition, "whole"), "gain"] == pytest.approx(expected.mean)
        prose = rows.loc[("wikipedia", condition, "whole")]
        assert prose["gain"] == pytest.approx(of["wikipedia"].iloc[0])
    assert {part for *_, part in rows.index} == {"whole", "first", "second", "last"}
    paired = found["paired"].set_index(["condition", "against", "part"])
    gap = gain[CARRIED] - gain[RESET]
    expected = cluster_interval([gap["made here"].to_numpy(), gap["go"].to_numpy()], seed=3)
    row = paired.loc[(CARRIED, RESET, "whole")]
    assert expected.n == row["n"] == 4
    assert tuple(row[["gain", "low", "high"]]) == pytest.approx(expected[:3])
    assert (CARRIED, PLAIN, "whole") not in paired.index  # nothing was read so


def test_a_repository_that_diverged_is_left_out_of_no_difference():
    read = read_made([FEW, MORE], lost="few")
    paired = tables.gains(tables.bins(read), seed=0)["paired"]
    carried = paired["condition"] == CARRIED
    assert paired.loc[carried, "gain"].isna().all() and carried.any()
    assert paired.loc[~carried, "gain"].notna().all()
    assert (paired["n"] == 2).all()


def test_differences_are_of_repositories_that_were_read_in_both():
    documents = pd.DataFrame(
        {"repository": list("abca"), "condition": list("xxxy"), "gain": [1, 2, 3, 5]}
    ).assign(source="go")
    assert tables.difference(documents, "x", "y").to_dict() == {("go", "a"): -4}
    assert tables.difference(documents, "x", "z").empty


# --- halves


def test_halves_are_compared_on_the_same_tokens(lm):
    made, three = conditions(lm), [MADE, *OTHERS]
    by_condition = {
        r.title: {BASE: made.base(r).ravel(), CARRIED: made.learned(r).ravel()} for r in three
    }
    found = halves(made, three, by_condition)
    for i, repository in enumerate(three):
        middle = repository.middle()
        mask, other = real(repository)[middle:], three[(i + 1) % 3]
        base = made.base(repository)[middle:]
        rows = found[found["repository"] == repository.name].set_index("before")
        assert rows.index.tolist() == [OWN, OTHER, NOTHING]
        assert (rows["tokens"] == mask.sum()).all()
        expected = {
            OWN: losses_of(made, repository)[middle:],
            OTHER: made.second_half(repository, other),
            NOTHING: made.second_half(repository, None),
        }
        for before, losses in expected.items():
            assert rows["gain"][before] == pytest.approx((base - losses)[mask].mean(), abs=1e-5)


def test_with_one_repository_of_a_source_there_is_no_other(lm):
    made = conditions(lm)
    one = dataclasses.replace(OTHERS[0], source="go")
    by_condition = {
        r.title: {BASE: made.base(r).ravel(), CARRIED: made.learned(r).ravel()} for r in (MADE, one)
    }
    found = halves(made, [MADE, one], by_condition)
    assert found["before"].tolist() == [OWN, NOTHING] * 2


def test_the_first_few_of_each_source_of_code_are_contrasted():
    many = [made_repository(name=str(i)) for i in range(5)]
    go = [dataclasses.replace(each, source="go") for each in many[:2]]
    found = contrasts([many[0], go[0], PROSE, many[1], go[1], *many[2:]])
    assert [each.title for each in found] == [each.title for each in (*many[:3], *go)]
