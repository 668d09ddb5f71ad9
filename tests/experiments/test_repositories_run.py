"""The repositories experiment from its configuration to its page, on sources made up here."""

import importlib

import pandas as pd
import pytest
from support.made_source import make_sources, words

from ponderttt.errors import InputError
from ponderttt.experiments import repositories
from ponderttt.experiments.repositories import conditions as conditions_module
from ponderttt.experiments.repositories.conditions import (
    BASE,
    CACHE,
    NOTHING,
    OTHER,
    OWN,
    PLAIN,
    SHUFFLED,
)
from ponderttt.experiments.repositories.config import RepositoriesConfig
from ponderttt.prepare import repository_reader
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.report.pages import repositories as page
from ponderttt.result import Result

run = importlib.import_module("ponderttt.experiments.repositories.run")
CONFIG = {"sources": ("packages", "go", "leads"), "unit": 16, "units": 12, "window": 64}


def read(cache, tuned: list | None = None, **options) -> Result:
    """A run with a cache of its own; `tuned` is told which repositories the cache is tuned on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PONDERTTT_CACHE", str(cache))
        make_sources(patch)
        tune = conditions_module.tuned_mixture

        def spy(conditions, training):
            (tuned if tuned is not None else []).extend(training)
            return tune(conditions, training)

        patch.setattr(run, "tuned_mixture", spy)
        return repositories.run(RepositoriesConfig(**{**CONFIG, **options}))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tuned():
    return []


@pytest.fixture(scope="module")
def result(cache, tuned):
    return read(cache, tuned)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("mine")
    for i in range(3):
        (root / f"{i}.py").write_text(words(f"mine {i}", 110))
    return root


def test_it_reads_what_it_was_asked_for(result):
    bins = result.tables["bins"]
    found = bins.groupby("source")["repository"].nunique()
    assert found.to_dict() == {"packages": 2, "go": 2, "leads": 2}
    assert result.scalars["repositories"] == 6
    whole = bins[bins["condition"] == BASE]
    assert result.scalars["tokens"] == whole["tokens"].sum() and (whole["gain"] == 0).all()
    of_prose = set(bins[bins["source"] == "leads"]["condition"])
    assert set(bins["condition"]) - of_prose == {PLAIN, SHUFFLED}
    assert set(result.tables) == set(repositories.MEANINGS)
    checked = page.check(result)
    assert "False" not in checked and checked.count("True") == 5


def test_the_cache_is_tuned_on_training_repositories_alone(result, tuned):
    names = {each.title for each in tuned}
    assert names and {each.source for each in tuned} == {"packages", "go"}
    bins = result.tables["bins"]
    assert not names & set(bins["source"] + ": " + bins["repository"])
    tuning = result.tables["tuning"]
    best = tuning.loc[tuning["gain"].idxmax()]
    assert best["chosen"] and tuning["chosen"].sum() == 1
    assert (result.scalars["sharpness"], result.scalars["mixing"]) == (
        best["sharpness"],
        best["share"],
    )


def test_no_article_is_contrasted(result):
    for name in ("halves", "rivals", "gainers", "explorer"):
        rows = result.tables[name]
        column = "source" if "source" in rows else "repository"
        assert set(rows[column].str.partition(":")[0]) == {"packages", "go"}
    rivals = result.tables["rivals"]
    assert set(rivals["window"]) == {16, 64} and len(rivals) == 4 * 2 * 2
    by_window = rivals.pivot_table(index="window", columns="learns", values="flops")
    assert (by_window[True] > by_window[False]).all()


def test_gainers_are_the_tokens_that_gained_most_together(result):
    gainers, explorer = result.tables["gainers"], result.tables["explorer"]
    for title, own in gainers.groupby("repository"):
        assert own["gain"].is_monotonic_decreasing and own["token"].is_unique
        units = explorer[explorer["source"] == title]
        text = [piece for pieces in units["pieces"] for piece in pieces]
        top = own.iloc[0]
        assert top["times"] >= text.count(top["text"]) > 0
    assert ((explorer["SKIP"] > 0) & (explorer["UPDATE"] > 0)).all()


def test_what_was_read_is_not_read_again(result, cache, monkeypatch):
    monkeypatch.setattr(repository_reader, "rollout", lambda *_, **how: pytest.fail("it reads"))
    again = read(cache)
    for name, rows in result.tables.items():
        pd.testing.assert_frame_equal(rows, again.tables[name])


def test_a_folder_of_ones_own_is_read_and_the_cache_tuned_on_packages(result, cache, folder):
    tuned = []
    found = read(cache, tuned, sources=(str(folder),), test_repositories=2)
    assert {each.source for each in tuned} == {"packages"}
    assert result.tables["bins"]["source"].nunique() == 3  # and not of the folder
    files = found.tables["files"]
    assert files["path"].tolist() == ["0.py", "1.py", "2.py"][: len(files)] and len(files) >= 2
    assert found.scalars["repositories"] == 1
    assert set(found.tables["halves"]["before"]) == {OWN, NOTHING}
    assert_page_works(found)


def test_one_repository_of_a_source_is_compared_with_no_other(cache, result):
    found = read(cache, sources=("go", "leads"), test_repositories=1)
    assert set(result.tables["halves"]["before"]) == {OWN, OTHER, NOTHING}
    assert set(found.tables["halves"]["before"]) == {OWN, NOTHING}
    assert {PLAIN, SHUFFLED, CACHE} <= set(found.tables["documents"]["condition"])
    assert_page_works(found)


def assert_page_works(result: Result) -> None:
    assert "False" not in page.check(result)
    for draw in (page.by_position, page.halves, page.by_window, page.tree, page.explorer):
        draw(result).to_dict()
    for show in (page.gains, page.paired, page.kinds, page.repositories, page.gainers):
        assert len(show(result).splitlines()) > 4
    assert "another's does" not in page.conclusions(result)


# --- bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rule": "nope"}, "unknown rule 'nope'"),
        ({"rule": "rms_sum"}, "rule 'rms_sum' needs statistics of training documents, .* sgd, nor"),
        ({"rank": 300}, "rank is 300: expected a whole number of 1 to 256"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"units": 1}, "units is 1"),
        ({"sources": ("leads",)}, "sources holds leads alone, which are articles"),
        ({"sources": ("nowhere",)}, "nowhere"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        RepositoriesConfig(**{**CONFIG, **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 4096}, "a window of 4096 tokens: the model has positions for 2048"),
        ({"window": 24}, "a unit of 16 tokens does not divide the window of 24 tokens"),
        ({"blocks": 3}, "suffix_blocks is 3: tiny has 2 blocks"),
        ({"rank": 32}, "rank is 32: k takes 32 inputs to 16 outputs"),
        ({"blocks": 0, "rank": 64}, "rank is 64: the last state takes 32 inputs"),
        ({"units": 40}, "has no train repository of at least 40 units of 16 tokens and 2 file"),
    ],
)
def test_what_the_model_or_the_sources_have_not_is_said_before_anything_is_read(
    monkeypatch, options, said
):
    make_sources(monkeypatch)
    monkeypatch.setattr(RepositoryReader, "states", lambda *_: pytest.fail("it reads"))
    with pytest.raises(InputError, match=said):
        repositories.run(RepositoriesConfig(**{**CONFIG, **options}))


def test_a_folder_of_one_file_is_refused(monkeypatch, tmp_path):
    make_sources(monkeypatch)
    monkeypatch.setattr(RepositoryReader, "states", lambda *_: pytest.fail("it reads"))
    (tmp_path / "a.py").write_text(words("a", 400))
    config = RepositoriesConfig(**{**CONFIG, "sources": (str(tmp_path),)})
    with pytest.raises(InputError, match=r"the largest is .* in 1 file\(s\)"):
        repositories.run(config)


def test_a_rank_is_of_all_projections_and_none_is_full():
    low, full = (RepositoriesConfig(rank=rank) for rank in (4, 0))
    for config, rank in ((low, 4), (full, None)):
        assert config.recipe.rank == config.plain.rank == config.recipe.adapter().rank == rank
    assert "rank 4, 1 block" in low.recipe.label and len(low.plain.targets) == 6
