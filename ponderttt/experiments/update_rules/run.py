"""The experiment: search on training repositories, choose on validation, show on test."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import pandas as pd

from ponderttt.experiments.update_rules import tables
from ponderttt.experiments.update_rules.config import UpdateRulesConfig
from ponderttt.experiments.update_rules.search import Search, read_bins
from ponderttt.experiments.update_rules.timing import timed
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import window_of
from ponderttt.prepare.recipes import Recipe
from ponderttt.prepare.repositories import Repository, Size, load_kinds
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.progress import track
from ponderttt.result import Result


def run(config: UpdateRulesConfig) -> Result:
    """Try, choose, and read test repositories with what is shown; see `tables`."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    window = window_of(lm.config, config.longest, config.window)
    reader = RepositoryReader(lm, window, config.seed)
    load = partial(load_kinds, lm, prose_units=config.prose_units, seed=config.seed)
    whole = Size(config.longest, config.units * config.unit // config.longest, config.min_files)
    short = whole._replace(units=config.search_units * config.unit // config.longest)
    training, _ = load(config.sources, split="train", size=short, count=config.train_repositories)
    validation, _ = load(
        config.sources, split="validation", size=whole, count=config.validation_repositories
    )
    search = Search(config, reader, training, validation)
    winner = search.run()

    shown = chosen(search, winner)
    size = Size(max(config.unit, winner.cadence), config.units, config.min_files)
    test, records = load(
        (*config.sources, *config.prose), split="test", size=size, count=config.test_repositories
    )
    read = read_test(search, test, shown)
    trials = pd.concat(search.trials, ignore_index=True)
    bins = pd.concat([bins for bins, _ in read], ignore_index=True)
    diverged = [at for _, at in read]
    return Result(
        name="update_rules",
        config=dataclasses.asdict(config),
        tables={
            "recipes": tables.recipes(search, shown, winner),
            "trials": trials,
            "search": tables.searched(trials, seed=config.seed),
            "bins": bins,
            **tables.tested(bins, diverged, config.prose, seed=config.seed),
            "seconds": timed(reader, training[0], shown, config.timed_units),
        },
        scalars={
            "winner": winner.label,
            "winner_share": winner.share(lm.config, window.tokens),
            "window": window.tokens,
            "tokens": int(bins[bins["label"] == winner.label]["tokens"].sum()),
            "model": lm.name,
            "fingerprint": lm.fingerprint,
            "dtype": lm.dtype,
        },
        meta={"sources": records},
    )


def chosen(search: Search, winner: Recipe) -> dict[str, Recipe]:
    """What is read on test repositories, by name: the winner, and the best plain step."""
    shown = {"chosen": winner}
    if any(recipe.rule == "normalized" for _, recipe in search.recipes.values()):
        plain = search.best_of(lambda recipe: recipe.rule == "normalized")
        if plain != winner:
            shown["normalized"] = plain
    return shown


def read_test(
    search: Search, test: Sequence[Repository], shown: dict[str, Recipe]
) -> list[tuple[pd.DataFrame, int]]:
    """The bins of every test repository under every recipe that is shown."""
    pairs = [(repository, name) for repository in test for name in shown]
    found = []
    for repository, name in track(pairs, "reading test repositories", len(pairs)):
        recipe = shown[name]
        adapter = recipe.adapter(search.statistics(recipe))
        bins, diverged = read_bins(search.reader, repository, recipe, adapter)
        found.append((bins.assign(label=recipe.label, shown=name), diverged))
    return found
