"""The page of the update rules on made results whose answer is known."""

import copy
import dataclasses
import re
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from support.pages import assert_draws

from ponderttt.evaluation.by_position import BINS
from ponderttt.experiments.update_rules import tables
from ponderttt.experiments.update_rules.config import RuleName, UpdateRulesConfig
from ponderttt.experiments.update_rules.search import CENTRES, Search, grid
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.prepare.recipes import Recipe
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.report.display import claims
from ponderttt.report.pages import update_rules as page
from ponderttt.report.pages.update_rules import names
from ponderttt.result import Result

CHARTS = (page.by_rate, page.by_depth, page.by_cost, page.by_position)
TABLES = (page.variants, page.finalists, page.gains, page.stability, page.costs)
PLAIN = Recipe("normalized", 0.1, 1, 64)
BEST = Recipe("rms", 3e-4, 1, 64)
CHEAP = Recipe("rms", 1e-3, 0, 64)
TOKENS = 100
"""Of a twelfth of a repository."""


@pytest.fixture(scope="module")
def search():
    """Every stage of a search, and what its recipes gain: the best rule, the most."""
    lm = TransformerLM.from_pretrained("tiny")
    config = UpdateRulesConfig(rules=tuple(CENTRES))
    made = Search(config, RepositoryReader(lm, Window(512)), [], [], 512.0)
    stages = {
        "rule": [Recipe(name, r, 1, 64) for name, c in CENTRES.items() for r in grid(c, 3)],
        "pull": [dataclasses.replace(BEST, pull=pull) for pull in (10.0, 100.0)],
        "iterations": [dataclasses.replace(BEST, rule="newton_schulz_1")],
        "depth": [CHEAP, dataclasses.replace(BEST, suffix_blocks=2, rate=1e-4)],
        "low rank": [dataclasses.replace(BEST, rank=rank) for rank in (4, 16)],
        "cadence": [dataclasses.replace(BEST, cadence=cadence) for cadence in (16, 128)],
        "steps": [dataclasses.replace(BEST, steps=2)],
    }
    for stage, recipes in stages.items():
        for recipe in recipes:
            made.recipes[recipe.label] = stage, recipe
    return made


def made(
    search, *, winner=CHEAP, code=0.07, growth=0.1, prose=0.02, plain=0.03, lost=(),
    lost_test=False, sources=("packages", "go", "wikipedia"), only="chosen",
) -> Result:  # fmt: skip
    """`code` nats are gained on code and `plain` by normalised steps; `lost` recipes diverged."""
    draw = np.random.default_rng(0)
    shown = {"chosen": winner} | ({"normalized": PLAIN} if only != "chosen" else {})
    rows, diverged = [], []
    for source in sources:
        for repository in range(4):
            for name, recipe in shown.items():
                gain = prose if source == "wikipedia" else code if name == "chosen" else plain
                each = gain + growth * (np.arange(BINS) - 5.5) / 11 + draw.normal(0, 1e-3)
                gone = lost_test and name == "chosen" and (source, repository) == (sources[0], 0)
                each = np.where(gone & (np.arange(BINS) > 3), np.nan, each)
                rows.append(
                    pd.DataFrame({"bin": range(BINS), "tokens": TOKENS, "gain": TOKENS * each})
                    .assign(loss=lambda t: 2 * TOKENS - t["gain"], source=source)
                    .assign(repository=f"r{repository}", label=recipe.label, shown=name)
                )
                diverged.append(5 if gone else -1)
    bins = pd.concat(rows, ignore_index=True)
    trials = list[dict]()
    for place, label in enumerate(search.recipes):
        rule = search.recipes[label][1].rule
        gain = np.nan if rule in lost else (0.05 if rule == "rms" else 0.02) - 1e-4 * place
        splits = ("train", "validation") if label in (winner.label, BEST.label) else ("train",)
        trials += [
            {"source": source, "repository": f"t{i}", "label": label, "gain": gain + 1e-3 * i,
             "split": split, "diverged": 3 if rule in lost else -1}
            for source in sources for i in range(2) for split in splits if source != "wikipedia"
        ]  # fmt: skip
    seconds = [
        {"shown": name, "label": recipe.label, "forward": 2e-4, "still": 5e-5, "learning": 9e-5,
         "share": 0.2}
        for name, recipe in shown.items()
    ]  # fmt: skip
    found = {
        "recipes": tables.recipes(search, shown, winner),
        "trials": pd.DataFrame(trials),
        "search": tables.searched(pd.DataFrame(trials), seed=0),
        "bins": bins,
        **tables.tested(bins, diverged, seed=0),
        "seconds": pd.DataFrame(seconds),
    }
    scalars = {"flops_budget": 0.5, "window": 512, "timed_units": 12, "keys": 512.0}
    return Result("update_rules", {"unit": 64, "units": 24}, found, scalars)


def verdicts(result) -> dict[str, str]:
    return {claim.sentence: claim.verdict for claim in page.claims(result)}


def of(result, words: str) -> str:
    found = [verdict for sentence, verdict in verdicts(result).items() if words in sentence]
    assert len(found) == 1, words
    return found[0]


@pytest.fixture(scope="module")
def result(search):
    return made(search, only="both")


# --- charts


@pytest.mark.parametrize("draw", CHARTS)
def test_a_chart_is_a_small_specification_and_a_picture(result, draw):
    assert_draws(draw(result))


VARIANTS = {
    "a source": {"sources": ("go",)},
    "no prose": {"sources": ("packages", "go")},
    "a rule diverged": {"lost": ("sgd", "adamw"), "only": "both"},
    "the best rule diverged": {"lost": ("rms",), "only": "both"},
    "the winner diverged": {"lost_test": True, "only": "both"},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=list(VARIANTS))
def test_the_page_works_whatever_came_out(search, options):
    result = made(search, **options)
    for draw in CHARTS:
        assert_draws(draw(result))
    for show in TABLES:
        assert len(show(result).splitlines()) >= 5
    assert page.conclusions(result) and page.check(result) and page.diverged(result)


def test_every_rule_is_drawn_at_its_rates(result):
    data = next(iter(page.by_rate(result).to_dict()["datasets"].values()))
    assert len(data) == 3 * len(CENTRES)
    assert {row["rule_name"] for row in data} == {names.RULES[rule] for rule in CENTRES}
    assert set(names.RULES) == set(get_args(RuleName))


def test_what_diverged_lies_below_everything_and_is_no_best(search):
    result = made(search, lost=("sgd",))
    data = next(iter(page.by_rate(result).to_dict()["datasets"].values()))
    below = {row["label"] for row in data if row["below"]}
    assert below == {label for label in search.recipes if label.startswith("sgd")}
    assert all(row["drawn"] == row["floor"] for row in data if row["below"])
    assert all((row["gain"] is None) == row["below"] for row in data)
    assert "RMS, of this document" in page.by_depth(result).to_dict()["title"]["subtitle"]
    assert rows_of(page.variants(result))[0][1].startswith("rms 0.0001")


def test_the_winner_has_the_ring_and_the_budget_its_line(result):
    spec = page.by_cost(result).to_dict()
    data = [rows for rows in spec["datasets"].values() if len(rows) > 1]
    assert [row["label"] for row in data[0] if row["chosen"]] == [CHEAP.label]
    assert [{"share": 0.5}] in spec["datasets"].values()


# --- tables


def rows_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_tables_print_the_numbers(result):
    gains = rows_of(page.gains(result))
    known = result.tables["gains"].set_index(["source", "shown"])
    assert len(gains) == len(known) == 8
    for source, shown, gain, first, last, n in gains:
        row = known.loc[("all" if source == "all code" else source, shown)]
        for cell, name in ((gain, "gain"), (first, "gain_first"), (last, "gain_last")):
            assert cell.partition("<br>")[0] == f"{1e3 * row[name]:+.1f}"
        assert int(n) == row["n"]
    finalists = rows_of(page.finalists(result))
    assert [row[0] for row in finalists] == [BEST.label, f"**{CHEAP.label}**"]
    costs = rows_of(page.costs(result))
    assert [row[0] for row in costs] == ["chosen", "normalized"]
    share = result.tables["recipes"].set_index("label")["share"][CHEAP.label]
    assert costs[0][2:] == [f"{share:.0%}", "20%", "200", "240"]
    stable = rows_of(page.stability(result))
    assert [row[1] for row in stable] == ["0 of 12", "0 of 12"]


def test_variants_are_ordered_within_their_stage(search):
    found = rows_of(page.variants(made(search, lost=("sgd",))))
    assert [row[0] for row in found][:2] == ["the best rule", "pulled back to the start"]
    assert len(found) == 9
    pulled = [float(row[2].partition("<br>")[0]) for row in found if row[0].startswith("pulled")]
    assert pulled == sorted(pulled, reverse=True)


def test_what_diverged_is_named_with_its_unit(search, result):
    found = rows_of(page.diverged(made(search, lost=("sgd",))))
    lost = [label for label in search.recipes if label.startswith("sgd")]
    assert len(found) == 3 * 2 * 2 and {row[0] for row in found} == set(lost)
    assert {row[2] for row in found} == {"4"}  # of those counted from 1
    assert page.diverged(result).startswith("No recipe diverged")


def test_what_is_not_finite_is_said_so(search):
    result = made(search, lost_test=True)
    assert "not finite" in page.stability(result)
    row = rows_of(page.stability(result))[0]
    assert row[-1] == "1" and row[3] == "packages: r0"


# --- claims


@pytest.mark.parametrize(
    ("words", "well", "ill"),
    [
        ("gains over the base", {}, {"code": -0.02}),
        ("more in the last third of a repository than", {}, {"growth": -0.1}),
        ("more than the best normalised step", {}, {"plain": 0.09}),
        ("at least 0.05 nats per token on average", {"code": 0.0505}, {"code": 0.0495}),
        ("at least 0.08 nats per token in the last third",
         {"code": 0.05, "growth": 0.0845}, {"code": 0.05, "growth": 0.08}),
        ("gets worse by more than 0.005", {"prose": -0.003}, {"prose": -0.007}),
        ("at most half of a forward pass", {"winner": CHEAP}, {"winner": BEST}),
    ],
)  # fmt: skip
def test_a_verdict_turns_with_the_numbers(search, words, well, ill):
    assert of(made(search, only="both", **well), words) == claims.SUPPORTED
    assert of(made(search, only="both", **ill), words) == claims.NOT_SUPPORTED


def test_without_a_plain_recipe_nothing_is_claimed_over_it(search):
    assert not any("normalised" in sentence for sentence in verdicts(made(search)))


def test_a_winner_that_diverged_supports_nothing_that_it_lost(search):
    found = verdicts(made(search, lost_test=True, only="both"))
    supported = [sentence for sentence, verdict in found.items() if verdict == claims.SUPPORTED]
    assert supported == ["It adds at most half of a forward pass in FLOPs."]


# --- the check


def test_the_check_holds_and_finds_what_does_not_fit(result):
    said = page.check(result)
    assert "False" not in said and said.count("True") == 3
    assert not re.search(r"\d\.\d", said)
    broken = copy.deepcopy(result)
    broken.tables["recipes"]["share"] += 1
    broken.tables["bins"].loc[0, "tokens"] += 1
    broken.tables["positions"].loc[broken.tables["positions"]["bin"] == 0, "gain"] = 1.0
    assert page.check(broken).count("False") == 3


def test_no_measurement_changes_the_check(search, result):
    other = made(search, code=0.06, prose=-0.03, plain=0.01, only="both")
    assert page.check(other) == page.check(result)
