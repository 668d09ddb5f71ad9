"""The experiment: prepare adapters on training text, read test text under every method."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import pandas as pd

from ponderttt.cache import Arrays
from ponderttt.evaluation.flops import forward_flops
from ponderttt.experiments.baselines import tables
from ponderttt.experiments.baselines.config import BaselinesConfig
from ponderttt.models.adapters.reconstruction import Reconstruction
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import Policy, RandomPolicy, UniformPolicy
from ponderttt.prepare import tuning
from ponderttt.prepare.corpora import Texts, load_texts
from ponderttt.prepare.reader import Reader
from ponderttt.progress import track
from ponderttt.result import Result
from ponderttt.types import CHUNK_ACTIONS


class Condition(NamedTuple):
    """One way to read a document: `measure(corpus, index)` gives its arrays."""

    objective: str
    name: str
    measure: Callable[..., Arrays]
    cost: float | None
    """Nominal cost a unit where the arrays do not tell it (the frozen base), in forward passes."""


def run(config: BaselinesConfig) -> Result:
    """Measure every method on every test document; see `tables` for what comes back."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    load = partial(load_texts, lm, unit=config.unit_size, units=config.units, seed=config.seed)
    test = load(config.sources, split="test", count=config.test_documents)
    training = load(config.sources, split="train", count=config.train_documents)
    validation = load(config.sources, split="validation", count=max(1, config.train_documents // 2))
    uniform = load(("uniform",), split="test", count=2)
    methods, tuned, trained = _prepare(lm, config, training, validation)

    read_all = partial(_read_all, methods)
    reading, floor = read_all(test, "reading test text"), read_all(uniform, "the ln V floor")
    units = tables.units(test, reading)
    return Result(
        name="baselines",
        config=dataclasses.asdict(config),
        tables={
            "units": units,
            "documents": tables.documents(units),
            "gains": tables.gains(units, seed=config.seed),
            "positions": tables.positions(units, seed=config.seed),
            "uniform": tables.floor(floor, lm.config.vocab_size),
            "explorer": tables.explorer(test, reading, lm.tokenizer_name),
            "tuning": tuned,
            "training": trained,
        },
        scalars={
            "test_documents": len(test),
            "tokens": int(test.corpus.documents.mask.sum()),
            "vocabulary": lm.config.vocab_size,
            "model": lm.name,
            "fingerprint": lm.fingerprint,
            "dtype": lm.dtype,
        },
        meta={"sources": test.record},
    )


def _prepare(
    lm: TransformerLM, config: BaselinesConfig, training: Texts, validation: Texts
) -> tuple[list[Condition], pd.DataFrame, pd.DataFrame]:
    """Every method of the page, with the tables of what was tuned and trained for it."""
    reader = Reader(lm, config.dispatch, config.seed)
    tune = partial(
        tuning.tune, reader, training=training, validation=validation, budget=config.budget,
        count=max(1, config.train_documents // 8),
    )  # fmt: skip
    methods, tuned, trained = _frozen(reader, config.unit_size), [], []
    if "next_token" in config.objectives:
        ready = tune(make=tuning.next_token, grid=tuning.NEXT_TOKEN_GRID)
        methods += _adapted(reader, ready)
        tuned.append(ready.table)
    if "reconstruction" in config.objectives:
        train = partial(
            tuning.train_layer, lm, training, validation, steps=config.train_steps, seed=config.seed
        )
        layer, history = train(mixture=tuning.MIXTURE, name="mixture")
        never, never_history = train(mixture=tuning.NEVER, name="rate 0")
        trained += [history, never_history]
        ready = tune(make=tuning.scaled(layer), grid=tuning.RECONSTRUCTION_GRID)
        methods += _adapted(reader, ready)
        control = partial(reader.read, Reconstruction.of(never), UniformPolicy("SKIP"))
        methods.append(Condition("reconstruction", "rate 0", control, None))
        tuned.append(ready.table)
    empty = pd.DataFrame(columns=["step", "loss", "validation", "trained", "stopped"])
    return methods, pd.concat(tuned), pd.concat(trained) if trained else empty


def _frozen(reader: Reader, unit: int) -> list[Condition]:
    """The base alone, and with a longer window at its own cost."""
    config = reader.lm.config
    flops = {window: forward_flops(config, window * unit) for window in (1, 2, 4)}
    return [
        Condition(
            "none",
            "base" if window == 1 else f"base x{window}",
            partial(reader.read_frozen, window),
            flops[window] / flops[1],
        )
        for window in flops
        if window * unit <= config.max_positions
    ]


def _adapted(reader: Reader, ready: tuning.Tuned) -> list[Condition]:
    """Every fixed action, and random at the budget."""
    policies: dict[str, Policy] = {name: UniformPolicy(name) for name in CHUNK_ACTIONS.names}
    policies["RANDOM"] = RandomPolicy(jnp.asarray(ready.mix))
    return [
        Condition(ready.adapter.objective, name, partial(reader.read, ready.adapter, policy), None)
        for name, policy in policies.items()
    ]


def _read_all(methods: list[Condition], texts: Texts, label: str) -> tables.Measurements:
    """Arrays of every (document, method)."""
    # Sources in turn: a run that is cut short has read about as much of each.
    pairs = [(i, m) for i in texts.round_robin() for m in range(len(methods))]
    return tables.Measurements(
        methods,
        {(i, m): methods[m].measure(texts.corpus, i) for i, m in track(pairs, label, len(pairs))},
    )
