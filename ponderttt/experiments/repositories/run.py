"""The experiment: read test repositories under every condition, and put the losses into tables."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from ponderttt.data.sources import find_source
from ponderttt.evaluation.flops import keys_met
from ponderttt.experiments.repositories import tables
from ponderttt.experiments.repositories.conditions import (
    BASE,
    CARRIED,
    NOTHING,
    OTHER,
    OWN,
    Conditions,
    read_conditions,
    short_windows,
    tuned_mixture,
)
from ponderttt.experiments.repositories.config import CONTRASTED, TRAINING, RepositoriesConfig
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import window_of
from ponderttt.prepare.repositories import PROSE, Repository, Size, load_kinds, mean_keys
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.progress import track
from ponderttt.result import Result


def run(config: RepositoriesConfig) -> Result:
    """Read, compare; see `tables` for what comes back."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    window = window_of(lm.config, config.unit, config.window)
    config.recipe.check(lm)
    load = partial(load_kinds, lm, size=Size.of(config.unit, config.units), seed=config.seed)
    training, _ = load(tuned_on(config.sources), split="train", count=TRAINING)
    test, records = load(config.sources, split="test", count=config.test_repositories)
    conditions = Conditions(RepositoryReader(lm, window, config.seed), config)
    mixture, tuned = tuned_mixture(conditions, training)
    contrasted = contrasts(test)
    by_condition = {
        repository.title: read_conditions(conditions, repository, mixture, repository in contrasted)
        for repository in track(test, "reading test repositories", len(test))
    }
    read = tables.Losses(test, by_condition, lm.config.vocab_size)
    bins = tables.bins(read)
    keys = mean_keys([each for each in test if each.source not in PROSE], window)
    return Result(
        name="repositories",
        config=dataclasses.asdict(config),
        tables={
            "files": tables.files(read),
            "bins": bins,
            **tables.gains(bins, seed=config.seed),
            "halves": halves(conditions, contrasted, by_condition),
            "tokens": tables.kinds(read, seed=config.seed),
            "rivals": rivals(conditions, contrasted),
            "tuning": pd.DataFrame(tuned),
            **tables.explored(read, lm.load_tokenizer()),
        },
        scalars={
            "recipe": config.recipe.label,
            "share": config.recipe.share(lm.config, keys),
            "window": window.tokens,
            "repositories": len(test),
            "tokens": read.tokens_read,
            "sharpness": mixture.sharpness,
            "mixing": mixture.share,
            "model": lm.name,
            "fingerprint": lm.fingerprint,
            "dtype": lm.dtype,
        },
        meta={"sources": records},
    )


def tuned_on(sources: Sequence[str]) -> list[str]:
    """The sources of training repositories: those of code that have a split.

    A folder of one's own has none; where there is nothing else, packages stand in for it.
    """
    found = [each for each in sources if each not in PROSE and not find_source(each)[1].own]
    return found or ["packages"]


def contrasts(test: list[Repository]) -> list[Repository]:
    """The first `CONTRASTED` repositories of code of each source."""
    found = []
    for source in dict.fromkeys(each.source for each in test):
        of_source = [each for each in test if each.source == source]
        if source not in PROSE:
            found += of_source[:CONTRASTED]
    return found


def halves(
    conditions: Conditions,
    contrasted: list[Repository],
    by_condition: dict[str, dict[str, np.ndarray]],
) -> pd.DataFrame:
    """Gain over the base on the second half of each repository, by what was read before it.

    The other repository is the next one of its source.
    """
    rows = []
    for repository in track(contrasted, "reading second halves", len(contrasted)):
        same = [each for each in contrasted if each.source == repository.source]
        other = same[(same.index(repository) + 1) % len(same)]
        middle = repository.middle()
        mask = np.asarray(repository.document.mask[0])[middle:]
        base_shape = repository.document.mask.shape[1:]
        base = by_condition[repository.title][BASE].reshape(base_shape)[middle:]
        found = {OWN: by_condition[repository.title][CARRIED].reshape(base_shape)[middle:]}
        if other is not repository:
            found[OTHER] = conditions.second_half(repository, other)
        found[NOTHING] = conditions.second_half(repository, None)
        for before, losses in found.items():
            gain = float((base - losses)[mask].mean())
            rows.append(
                {
                    "source": repository.source,
                    "repository": repository.name,
                    "before": before,
                    "tokens": int(mask.sum()),
                    "gain": gain,
                }
            )
    return pd.DataFrame(rows)


def rivals(conditions: Conditions, contrasted: list[Repository]) -> pd.DataFrame:
    """One row per repository, window and with or without updates: loss and FLOPs a token."""
    rows = []
    config, model = conditions.config, conditions.reader.lm.config
    for repository in track(contrasted, "reading in shorter windows", len(contrasted)):
        mask = np.asarray(repository.document.mask[0])
        for (window, learns), losses in short_windows(conditions, repository).items():
            keys = keys_met(repository.document, window_of(model, config.unit, window))
            rows.append(
                {
                    "source": repository.source,
                    "repository": repository.name,
                    "window": window,
                    "learns": learns,
                    "loss": float(losses[mask].mean()),
                    "flops": tables.flops(config.recipe, model, keys, learns),
                }
            )
    return pd.DataFrame(rows)
