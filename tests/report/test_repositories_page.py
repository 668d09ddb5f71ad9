"""The repositories' page on made losses whose answer is known."""

import copy
import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from support.made_repository import made_repository
from support.pages import assert_draws

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
)
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.report.display import claims
from ponderttt.report.pages import repositories as page
from ponderttt.result import Result

CHARTS = (page.by_position, page.halves, page.by_window, page.tree, page.explorer)
TABLES = (page.gains, page.paired, page.kinds, page.repositories, page.gainers)
GAINS = {CARRIED: 0.07, RESET: 0.04, CACHE: 0.05, BOTH: 0.1, PLAIN: 0.03, SHUFFLED: 0.06}
HALVES = {OWN: 0.09, OTHER: 0.06, NOTHING: 0.03}
SOURCES = ("packages", "go", "wikipedia")


@pytest.fixture(scope="module")
def tokenizer():
    return TransformerLM.from_pretrained("tiny").load_tokenizer()


def made(
    tokenizer, *, sources=SOURCES, growth=0.08, lost="", without=(), halves=HALVES, **gains
) -> Result:
    """Every condition gains what `gains` says; the carried one, `growth` more in the end."""
    gain_of = GAINS | {globals()[name]: value for name, value in gains.items()}
    draw, read, by_condition = np.random.default_rng(0), [], {}
    for source in sources:
        for i in range(3):
            lengths = (200,) if source == "wikipedia" else (90, 13, 70, 20)
            repository = dataclasses.replace(
                made_repository(lengths, unit=8, symbols=250, name=f"r{i}", seed=i), source=source
            )
            size = repository.document.tokens.size
            base = 3 + draw.normal(0, 0.1, size)
            slope = growth * (np.arange(size) / size - 0.5)
            found = {BASE: base}
            for name, gain in gain_of.items():
                contrasted = name in (PLAIN, SHUFFLED)
                if name in without or (contrasted and source == "wikipedia"):
                    continue
                found[name] = base - gain - (name == CARRIED) * slope - draw.normal(0, 1e-3)
            if repository.title == lost:
                found[CARRIED][50:] = np.nan
            by_condition[repository.title] = found
            read.append(repository)
    losses = tables.Losses(read, by_condition, 257)
    bins = tables.bins(losses)
    code = [each for each in read if each.source != "wikipedia"]
    half = [
        {"source": each.source, "repository": each.name, "before": before, "tokens": 90,
         "gain": gain + draw.normal(0, 1e-3)}
        for each in code for before, gain in halves.items()
    ]  # fmt: skip
    rivals = [
        {"source": each.source, "repository": each.name, "window": window, "learns": learns,
         "loss": 3 - 0.1 * learns - window / 1e4, "flops": 1e5 * (1 + learns) + 100 * window}
        for each in code for window in (128, 512) for learns in (False, True)
    ]  # fmt: skip
    found = {
        "files": tables.files(losses),
        "bins": bins,
        **tables.gains(bins, seed=0),
        "halves": pd.DataFrame(half),
        "tokens": tables.kinds(losses, seed=0),
        "rivals": pd.DataFrame(rivals),
        **tables.explored(losses, tokenizer),
    }
    scalars = {"window": 512, "recipe": "rms 0.001; MLP outputs, 1 block; a step per 8"}
    return Result("repositories", {"unit": 8, "units": 26}, found, scalars)


@pytest.fixture(scope="module")
def result(tokenizer):
    return made(tokenizer)


def verdict(result, words: str) -> str:
    found = [claim.verdict for claim in page.claims(result) if words in claim.sentence]
    assert len(found) == 1, words
    return found[0]


def rows_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def first_of(cell: str) -> str:
    return cell.partition("<br>")[0]


# --- charts


@pytest.mark.parametrize("draw", CHARTS)
def test_a_chart_is_a_small_specification_and_a_picture(result, draw):
    if draw is page.explorer:
        assert draw(result).to_dict()
    else:
        assert_draws(draw(result))


VARIANTS = {
    "a source": {"sources": ("go",)},
    "no prose": {"sources": ("packages", "go")},
    "one diverged": {"lost": "go: r1"},
    "nothing contrasted": {"without": (PLAIN, SHUFFLED), "halves": {OWN: 0.05, NOTHING: 0.01}},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=list(VARIANTS))
def test_the_page_works_whatever_came_out(tokenizer, options):
    result = made(tokenizer, **options)
    for draw in CHARTS[:-1]:
        assert_draws(draw(result))
    page.explorer(result).to_dict()
    for show in TABLES:
        assert len(show(result).splitlines()) >= 5
    assert "False" not in page.check(result)
    assert page.conclusions(result)


def test_positions_leave_out_what_was_read_elsewhere(result):
    data = max(page.by_position(result).to_dict()["datasets"].values(), key=len)
    assert {row["condition"] for row in data} == {CARRIED, RESET, CACHE, BOTH, PLAIN}
    carried = [row["gain"] for row in data if row["condition"] == CARRIED]
    assert len(carried) == 12 and carried == sorted(carried)


def test_the_tree_is_of_one_repository_of_each_source_in_the_order_it_is_read(result):
    rows = next(iter(page.tree(result).to_dict()["datasets"].values()))
    assert [row["title"] for row in rows] == ["packages · r0"] * 4 + ["go · r0"] * 4
    assert [row["file"] for row in rows] == [0, 1, 2, 3] * 2
    files = result.tables["files"].query("repository == 'r0' and source == 'go'")
    for row, known in zip(rows[4:], files.to_dict("records"), strict=True):
        assert row["gain"] == pytest.approx(1e3 * (known[BASE] - known[CARRIED]), abs=0.06)
        assert row["reset"] == pytest.approx(1e3 * (known[BASE] - known[RESET]), abs=0.06)


def test_windows_stand_where_their_flops_are(result):
    rows = next(iter(page.by_window(result).to_dict()["datasets"].values()))
    assert {(row["window"], row["reads"]) for row in rows} == {
        (window, reads) for window in (128, 512) for reads in ("the base alone", "with updates")
    }
    for row in rows:
        assert row["loss"] == pytest.approx(3 - 0.1 * row["learns"] - row["window"] / 1e4)


# --- tables


def test_tables_print_the_numbers(result):
    known = result.tables["gains"].set_index(["source", "condition", "part"])["gain"]
    rows = rows_of(page.gains(result))
    assert len(rows) == 3 * 6 + 4  # articles have fewer conditions, and the base has no row
    for source, condition, *parts, _ in rows:
        for name, cell in zip(("whole", "first", "second", "last"), parts, strict=True):
            gain = known["all" if source == "all code" else source, condition, name]
            assert first_of(cell) == f"{1e3 * gain:+.1f}"
    paired = rows_of(page.paired(result))
    for row, known in zip(paired, result.tables["paired"].to_dict("records"), strict=True):
        assert row[0] == f"{known['condition']} against {known['against']}"
        assert first_of(row[2]) == f"{1e3 * known['gain']:+.1f}" and row[3] == "6"
    assert [row[1] for row in paired[:3]] == ["whole", "last third", "whole"]
    every = rows_of(page.repositories(result))
    documents = result.tables["documents"].set_index(["source", "repository", "condition"])
    assert len(every) == 9
    for source, name, tokens, loss, gain, *_ in every:
        base, carried = (documents.loc[(source, name, each)] for each in (BASE, CARRIED))
        assert tokens == f"{int(carried['tokens']):,}" and loss == f"{base['loss']:.3f}"
        assert gain == f"{1e3 * carried['gain']:+.1f}"
    shares = [int(row[1].rstrip("%")) for row in rows_of(page.kinds(result))]
    assert len(shares) == 3 and abs(sum(shares) - 100) <= 1


def test_gainers_show_their_blanks_and_bars(result):
    odd = copy.copy(result)
    gainers = result.tables["gainers"].head(3).assign(text=["\n ", "`|`", ""])
    odd = dataclasses.replace(result, tables=result.tables | {"gainers": gainers})
    assert [row[1] for row in rows_of(page.gainers(odd))] == ["`↵·`", "`'\\|'`", "`∅`"]


# --- claims


@pytest.mark.parametrize(
    ("words", "ill"),
    [
        ("Carried fast weights gain over the base", {"CARRIED": -0.05}),
        ("in the last third of a repository than in the second", {"growth": -0.08}),
        ("in the last third of a repository than in the first", {"growth": -0.08}),
        ("than resetting them at each file", {"RESET": 0.09}),
        ("Files in the order of their paths gain more", {"SHUFFLED": 0.09}),
        ("than normalised steps", {"PLAIN": 0.09}),
        ("than the continuous cache", {"CACHE": 0.09}),
        ("beside the continuous cache too", {"BOTH": 0.02}),
        ("own first half helps its second more", {"halves": {OWN: 0.05, OTHER: 0.06, NOTHING: 0}}),
        ("helps more than nothing does", {"halves": {OWN: 0.09, OTHER: 0.01, NOTHING: 0.03}}),
    ],
)  # fmt: skip
def test_a_verdict_turns_with_the_numbers(tokenizer, result, words, ill):
    assert verdict(result, words) == claims.SUPPORTED
    assert verdict(made(tokenizer, **ill), words) == claims.NOT_SUPPORTED


def test_what_was_not_read_is_not_claimed(tokenizer):
    bare = made(tokenizer, without=(PLAIN, SHUFFLED), halves={OWN: 0.05, NOTHING: 0.01})
    found = " ".join(claim.sentence for claim in page.claims(bare))
    assert not any(words in found for words in ("shuffled", "normalised", "first half"))
    assert len(page.claims(bare)) == 6


def test_a_repository_that_diverged_supports_no_claim_of_the_carried(tokenizer):
    found = page.claims(made(tokenizer, lost="go: r1"))
    supported = {claim.sentence for claim in found if claim.verdict == claims.SUPPORTED}
    assert supported == {
        "They gain beside the continuous cache too.",
        "A repository's own first half helps its second more than another's does.",
        "Another repository's first half helps more than nothing does.",
    }


def test_articles_are_in_no_claim(tokenizer, result):
    alone = made(tokenizer, sources=("packages", "go"))
    assert [claim.evidence.n for claim in page.claims(result)] == [6] * 10
    assert [claim.verdict for claim in page.claims(alone)] == [claims.SUPPORTED] * 10


# --- the check


def test_the_check_holds_and_finds_what_does_not_fit(result):
    said = page.check(result)
    assert "False" not in said and said.count("True") == 5
    assert not re.search(r"\d\.\d", said)
    broken = copy.deepcopy(result)
    bins = broken.tables["bins"]
    bins.loc[bins["condition"] == BASE, "gain"] += 1
    bins.loc[0, "tokens"] += 1
    broken.tables["tokens"]["share"] *= 2
    broken.tables["rivals"]["flops"] = 1.0
    assert page.check(broken).count("False") == 5


def test_no_measurement_changes_the_check(tokenizer, result):
    other = made(tokenizer, growth=-0.1, CARRIED=-0.2, CACHE=0.4)
    assert page.check(other) == page.check(result)
