"""The convergence experiment: distance to the limit, and the loss of what is read next, against K.

Every layer and rate is made ready on training and validation documents; test documents are read
once. K is an argument of one compiled program for each kind of adapter, not a program of its own.
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from ponderttt.experiments.convergence import problems, tables
from ponderttt.experiments.convergence.config import ConvergenceConfig
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.adapters.reconstruction import Reconstruction, ReconstructionLimit
from ponderttt.models.adapters.ttt_layer import TTTLayer
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import RandomPolicy
from ponderttt.prepare import tuning
from ponderttt.prepare.corpora import Texts, load_texts
from ponderttt.prepare.reader import Reader
from ponderttt.progress import track
from ponderttt.result import Result
from ponderttt.types import CHUNK_ACTIONS, ActionSpace

MADE = 8
"""Made problems of each condition number."""
ASCENTS = (1, 4)
"""Steps of the sign-flip control where nothing was trained for it."""


class Condition(NamedTuple):
    """One way to read: an adapter, what it was trained with, and the steps that it takes."""

    objective: str
    trained: str
    direction: str
    adapter: Adapter
    steps: float
    """Infinite where the adapter goes to the limit."""


def run(config: ConvergenceConfig) -> Result:
    """Measure the descents and read the test documents; see `tables` for what comes back."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    load = partial(load_texts, lm, unit=config.unit_size, units=config.units, seed=config.seed)
    training = load(config.sources, split="train", count=config.train_documents)
    validation = load(config.sources, split="validation", count=max(1, config.train_documents // 2))
    test = load(config.sources, split="test", count=config.test_documents)

    reader = Reader(lm, "switch", config.seed)
    layers, histories = _train(lm, config, training, validation)
    ready = tuning.tune(
        reader, tuning.next_token, tuning.NEXT_TOKEN_GRID, training, validation,
        budget=CHUNK_ACTIONS.costs[1], count=max(1, config.train_documents // 8),
    )  # fmt: skip
    assert isinstance(ready.adapter, NextToken)
    conditions = list(_conditions(config, ready.adapter, layers))
    outer = _read(reader, config, conditions, test)
    return Result(
        name="convergence",
        config=dataclasses.asdict(config),
        tables={
            "made": tables.made(problems.made(config.conditions, MADE), config.k_values),
            "descents": _descents(config, layers["plain, K = 1"], test),
            "outer": outer,
            "gains": tables.gains(outer, seed=config.seed),
            "tuning": ready.table,
            "training": pd.concat(histories),
        },
        scalars={
            "test_documents": len(test),
            "tokens": int(test.corpus.documents.mask.sum()),
            "model": lm.name,
            "fingerprint": lm.fingerprint,
            "dtype": lm.dtype,
        },
        meta={"sources": test.record},
    )


def _train(
    lm: TransformerLM, config: ConvergenceConfig, training: Texts, validation: Texts
) -> tuple[dict[str, TTTLayer], list[pd.DataFrame]]:
    """Layers by what they were trained with: TTT-Linear, and the plain map that has a limit.

    `rate 0` never took a step: the control that says what the slow weights alone are worth.
    """
    steady = _steady_rate(lm, config, training)
    # Probabilities of 0, 1, 2 and 4 steps a unit.
    one, four = (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)
    recipes: dict[str, dict] = {
        "K = 1": {"mixture": one},
        "K = 4": {"mixture": four},
        "ascent, K = 1": {"mixture": one, "rate_scale": -1.0},
        "rate 0": {"mixture": tuning.NEVER},
        "plain, K = 1": {"mixture": one, "norm": False, "base_rate": steady},
    }
    layers, histories = {}, []
    for name, recipe in recipes.items():
        layers[name], history = tuning.train_layer(
            lm, training, validation,
            steps=config.train_steps, seed=config.seed, name=name, **recipe,
        )  # fmt: skip
        histories.append(history)
    return layers, histories


def _steady_rate(lm: TransformerLM, config: ConvergenceConfig, training: Texts) -> float:
    """Half of what converges on the keys of the training documents' first units, untrained."""
    layer = TTTLayer(tuning.layer_shape(lm, training, norm=False))
    bounds = [
        problems.stable_rates(layer, np.asarray(training.corpus.hidden[i][:1]))
        for i in range(len(training))
    ]
    return float(0.5 * np.min(bounds))


def _conditions(
    config: ConvergenceConfig, next_token: NextToken, layers: dict[str, TTTLayer]
) -> Iterator[Condition]:
    steps = (0, *config.k_values)
    yield Condition("reconstruction", "rate 0", "descent", Reconstruction.of(layers["rate 0"]), 0)
    yield from (Condition("next_token", "", "descent", next_token, k) for k in steps)
    rule = next_token.rule
    assert isinstance(rule, SGD)
    uphill = dataclasses.replace(next_token, rule=dataclasses.replace(rule, rate=-rule.rate))
    yield from (Condition("next_token", "", "ascent", uphill, k) for k in ASCENTS)
    for trained in ("K = 1", "K = 4"):
        adapter = Reconstruction.of(layers[trained])
        yield from (Condition("reconstruction", trained, "descent", adapter, k) for k in steps)
        uphill = Reconstruction.of(layers[trained], scale=-1.0)
        yield from (Condition("reconstruction", trained, "ascent", uphill, k) for k in ASCENTS)
    trained = "ascent, K = 1"
    uphill = Reconstruction.of(layers[trained], scale=-1.0)
    yield from (Condition("reconstruction", trained, "ascent", uphill, k) for k in steps)
    plain = layers["plain, K = 1"]
    adapter = Reconstruction.of(plain)
    yield from (Condition("plain", "K = 1", "descent", adapter, k) for k in steps)
    yield Condition("plain", "K = 1", "descent", ReconstructionLimit.of(plain), np.inf)


def _read(
    reader: Reader, config: ConvergenceConfig, conditions: list[Condition], test: Texts
) -> pd.DataFrame:
    """One row per (document, way): its loss, and the inner loss before each unit was learned."""
    most = sorted({0, *config.k_values, *ASCENTS})
    actions = ActionSpace(
        tuple(f"K{k}" for k in most), tuple(most), tuple(1.0 + 2 * k for k in most)
    )
    pairs = [(i, condition) for i in range(len(test)) for condition in conditions]
    rows = []
    for i, condition in track(pairs, "reading test text", len(pairs)):
        # Certain of one action: which one is data, so that all K share a compiled program.
        taken = 1 if np.isinf(condition.steps) else int(condition.steps)
        certain = np.eye(len(most), dtype=np.float32)[most.index(taken)]
        policy = RandomPolicy(jnp.asarray(certain), actions)
        arrays = reader.read(condition.adapter, policy, test.corpus, i)
        rows.append(
            {
                "source": test.sources[i],
                "path": test.paths[i],
                "document": i,
                "objective": condition.objective,
                "trained": condition.trained,
                "direction": condition.direction,
                "steps": condition.steps,
                "loss": tuning.document_loss(arrays),
                "inner_loss": float(arrays["inner_loss"].mean()),
            }
        )
    return pd.DataFrame(rows)


def _descents(config: ConvergenceConfig, plain: TTTLayer, test: Texts) -> pd.DataFrame:
    """Means over a document's units and heads of what each of their descents did."""
    most, frames = max(config.k_values), []
    for i in track(range(len(test)), "descents on real states", len(test)):
        descents = problems.of_document(plain, np.asarray(test.corpus.hidden[i]), most)
        frames.append(
            tables.descents(descents, config.k_values, np.asarray(plain.rate())).assign(
                source=test.sources[i], path=test.paths[i], document=i
            )
        )
    return pd.concat(frames, ignore_index=True)
