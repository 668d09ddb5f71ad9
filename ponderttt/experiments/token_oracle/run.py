"""The oracle of single tokens: a small model with TTT layers, every K at sampled positions."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from ponderttt.allocation.oracle import separable_gain
from ponderttt.checks import Count, Seed, check
from ponderttt.data.language import load_language
from ponderttt.errors import InputError
from ponderttt.evaluation.metrics import spearman_interval
from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import spec_of
from ponderttt.experiments.comparison.training import fit, load_texts, settings_of
from ponderttt.experiments.token_oracle.losses import position_losses, sample_positions
from ponderttt.prepare.inputs import LanguageName
from ponderttt.progress import track
from ponderttt.training.language import graph_of
from ponderttt.types import IGNORED, ActionSpace

REFERENCE = 4
"""Steps of every token but the one that is looked at."""


@dataclass(frozen=True)
class TokenOracleConfig:
    """How a model is trained (K drawn at random, so that it has seen all) and where it is asked."""

    max_batches: Count = 2
    sample_positions: Count = 8
    """Of each document."""
    train_steps: Count = 6
    batch_size: Count = 4
    max_length: Count = 48
    hidden_dim: Count = 32
    num_layers: Count = 3
    horizon: Count = 16
    """Predictions that a position's steps are judged by, its own the first."""
    source: LanguageName = "wikipedia"
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        if 1 + self.sample_positions + self.horizon > self.max_length:
            raise InputError(
                f"{self.sample_positions} positions with a horizon of {self.horizon} tokens do "
                f"not fit into {self.max_length} tokens: expected fewer, or a longer max_length"
            )
        self.training()

    def training(self) -> ComparisonConfig:
        """The comparison's settings for this model."""
        return ComparisonConfig(
            source=self.source, methods=("random",), seeds=(self.seed,),
            max_train_batches=self.train_steps, max_eval_batches=self.max_batches,
            batch_size=self.batch_size, max_length=self.max_length, hidden_dim=self.hidden_dim,
            num_layers=self.num_layers,
        )  # fmt: skip


def run(config: TokenOracleConfig) -> dict[str, pd.DataFrame]:
    """Train, ask every K at every sampled position of test documents; the tables below by name."""
    settings = config.training()
    spec = spec_of("random")
    texts = load_texts(
        settings, load_language(config.source), least=1 + config.sample_positions + config.horizon
    )
    language = settings_of(settings, spec, texts)
    learners, _ = fit(settings, language, "the model of the token oracle", spec, texts)
    weights = jax.tree.map(lambda leaf: leaf[0], learners.params)  # of the only seed
    graph = graph_of(language.model)
    actions = language.model.actions
    rows = []
    windows = texts.test
    size = config.batch_size
    for at in track(range(0, len(windows) - size + 1, size), "every K", len(windows) // size):
        part = slice(at, at + size)
        mask = windows.mask[part]
        positions = sample_positions(
            mask, config.sample_positions, config.horizon, config.seed + at
        )
        loss, difficulty = position_losses(
            graph, weights, jnp.asarray(windows.inputs[part]),
            jnp.asarray(np.where(mask, windows.tokens[part], IGNORED)), jnp.asarray(positions),
            reference=REFERENCE, horizon=config.horizon,
        )  # fmt: skip
        for b in range(size):
            frame = pd.DataFrame(np.asarray(loss[b], float), columns=list(actions.names)).assign(
                position=positions[b],
                difficulty=np.asarray(difficulty[b], float),
                document=windows.titles[at + b],
                window=at + b,
            )
            rows.append(frame)
    tokens = pd.concat(rows, ignore_index=True)
    return {
        "tokens": tokens,
        "token_optimal": optimal(tokens, actions),
        "token_frontier": frontier(tokens, actions),
        "token_difficulty": difficulty_table(tokens, actions, seed=config.seed),
    }


def gains_of(tokens: pd.DataFrame, actions: ActionSpace) -> np.ndarray:
    """[M, A]: what each option at a position gains over the reference there (nats)."""
    loss = tokens[list(actions.names)].to_numpy()
    return loss[:, [actions.steps.index(REFERENCE)]] - loss


def optimal(tokens: pd.DataFrame, actions: ActionSpace) -> pd.DataFrame:
    """Of each option: how often it is the best, and its mean gain with its interval by text."""
    gains = gains_of(tokens, actions)
    best = gains.argmax(axis=1)  # the cheaper of equals
    rows = []
    for a, name in enumerate(actions.names):
        by_document = pd.Series(gains[:, a]).groupby(tokens["document"].to_numpy()).mean()
        interval = cluster_interval([by_document.to_numpy()])
        rows.append(
            {
                "option": name, "steps": actions.steps[a], "share": float((best == a).mean()),
                "gain": interval.mean, "low": interval.low, "high": interval.high,
                "documents": interval.n,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def frontier(tokens: pd.DataFrame, actions: ActionSpace) -> pd.DataFrame:
    """At each mean K: the most that choosing by position gains, and the same K for all positions.

    Nats over the horizon of one position, beside the reference. The oracle has read what follows,
    and gains of changing one position at a time are taken to add up.
    """
    gains = gains_of(tokens, actions)
    same = gains.mean(axis=0)
    rows = []
    for budget in np.linspace(actions.costs[0], actions.costs[-1], 15):
        found = separable_gain(gains, float(budget), actions)
        rows.append((float(budget), found, float(np.interp(budget, actions.steps, same))))
    return pd.DataFrame(rows, columns=["mean_steps", "oracle", "same_for_all"])


def difficulty_table(tokens: pd.DataFrame, actions: ActionSpace, *, seed: int) -> pd.DataFrame:
    """Rank correlation of the loss of the token just read with its best K, and with K8's gain."""
    gains = gains_of(tokens, actions)
    targets = {
        "best K": np.asarray(actions.steps)[gains.argmax(axis=1)],
        f"gain of {actions.names[-1]} over {actions.names[0]}": gains[:, -1] - gains[:, 0],
    }
    rows = []
    for target, values in targets.items():
        found = spearman_interval(
            tokens["difficulty"], values, tokens["document"], seed, resamples=500
        )
        rows.append({"target": target} | found._asdict())
    return pd.DataFrame(rows)
