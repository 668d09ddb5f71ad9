"""The oracle of single tokens: a small model with TTT layers, every K at sampled positions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from ponderttt.data.language import load_language
from ponderttt.experiments.comparison.methods import spec_of
from ponderttt.experiments.comparison.training import (
    Texts,
    check_curve,
    fit,
    load_texts,
    settings_of,
)
from ponderttt.experiments.token_oracle import tables
from ponderttt.experiments.token_oracle.config import TokenOracleConfig
from ponderttt.experiments.token_oracle.losses import position_losses, sample_positions
from ponderttt.models.iterative.model import count_parameters
from ponderttt.progress import track
from ponderttt.result import Result
from ponderttt.training.finite import check_finite
from ponderttt.training.language import graph_of


def run(config: TokenOracleConfig) -> Result:
    """Train, ask every K at every sampled position of test documents; `tables` has what it says."""
    settings, spec = config.training(), spec_of("random")
    texts = load_texts(
        settings, load_language(config.source), least=1 + config.sample_positions + config.horizon
    )
    language = settings_of(settings, spec, texts)
    learners, curves = fit(settings, language, "the model of the token oracle", spec, texts)
    check_curve(settings, "the model of the token oracle", curves["loss"])
    weights = jax.tree.map(lambda leaf: leaf[0], learners.params)  # of the only seed
    actions = language.model.actions
    tokens = _ask(config, graph_of(language.model), weights, texts, actions.names)
    return Result(
        name="token_oracle",
        config=dataclasses.asdict(config),
        tables={
            "tokens": tokens,
            "token_optimal": tables.optimal(tokens, actions),
            "token_frontier": tables.frontier(tokens, actions),
            "token_difficulty": tables.difficulty(tokens, actions, seed=config.seed),
        },
        scalars={
            "num_params": count_parameters(language.model),
            "positions": len(tokens),
            "texts": tokens["document"].nunique(),
        },
        meta={"source": texts.corpus.record},
    )


def _ask(
    config: TokenOracleConfig, graph, weights, texts: Texts, names: tuple[str, ...]
) -> pd.DataFrame:
    """One row per position: its loss under each K (columns `names`) and how hard the token was."""
    windows, size = texts.test, config.batch_size
    rows = []
    for at in track(range(0, len(windows) - size + 1, size), "every K", len(windows) // size):
        part = slice(at, at + size)
        mask = windows.mask[part]
        positions = sample_positions(
            mask, config.sample_positions, config.horizon, config.seed + at
        )
        loss, difficulty = position_losses(
            graph, weights, jnp.asarray(windows.inputs[part]),
            jnp.asarray(windows.labels[part]), jnp.asarray(positions),
            reference=tables.REFERENCE, horizon=config.horizon,
        )  # fmt: skip
        check_finite(
            loss, ("window", "position", "K"), names={"window": range(at, at + size)},
            remedy="train for fewer steps",
        )  # fmt: skip
        for b in range(size):
            frame = pd.DataFrame(np.asarray(loss[b], float), columns=list(names)).assign(
                position=positions[b],
                difficulty=np.asarray(difficulty[b], float),
                document=windows.titles[at + b],
                window=at + b,
            )
            rows.append(frame)
    return pd.concat(rows, ignore_index=True)
