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
from ponderttt.prepare.repositories import PROSE, Repository, Size, load_kinds, mean_keys
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.progress import track
from ponderttt.result import Result


def run(config: UpdateRulesConfig) -> Result:
    """Try, choose, and read test repositories with what is shown; see `tables`."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    window = window_of(lm.config, config.longest, config.window)
    lm.check_suffix(config.blocks)
    reader = RepositoryReader(lm, window, config.seed)
    load = partial(load_kinds, lm, seed=config.seed)
    code = tuple(source for source in config.sources if source not in PROSE)
    size = Size.of(config.unit, config.units)
    whole = size.regroup(config.longest)
    short = Size.of(config.unit, config.units)._replace(units=config.search.search_units)
    training, _ = load(
        code, split="train", size=short.regroup(config.longest), count=config.train_repositories
    )
    validation, _ = load(code, split="validation", size=whole, count=config.search.validation)
    keys = mean_keys(validation, window)
    search = Search(config, reader, training, validation, keys)
    winner = search.run()

    shown = chosen(search, winner)
    longest = max(recipe.cadence for recipe in shown.values())
    test, records = load(
        config.sources, split="test", size=whole if longest > config.unit else size,
        count=config.test_repositories,
    )  # fmt: skip
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
            **tables.tested(bins, diverged, seed=config.seed),
            "seconds": timed(reader, training[0], shown, config.search.timed_units),
        },
        scalars={
            "winner": winner.label,
            "winner_share": winner.share(lm.config, keys),
            "keys": keys,
            "flops_budget": config.search.flops_budget,
            "timed_units": config.search.timed_units,
            "window": window.tokens,
            "tokens": int(bins[bins["label"] == winner.label]["tokens"].sum()),
            "model": lm.name,
            "fingerprint": lm.fingerprint,
            "dtype": lm.dtype,
        },
        meta={"sources": records},
    )


def chosen(search: Search, winner: Recipe) -> dict[str, Recipe]:
    """What test repositories are read with, by name: the winner, the best affordable plain step."""
    found = [search.recipes[label][1] for label in search.affordable()]
    plain = next((recipe for recipe in found if recipe.rule == "normalized"), winner)
    return {"chosen": winner} | ({"normalized": plain} if plain != winner else {})


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
