"""Adapters made ready on training documents: rates tuned, slow weights trained."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx

from ponderttt.cache import code_fingerprint, fingerprint
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.adapters.reconstruction import Reconstruction
from ponderttt.models.adapters.ttt_layer import TTTConfig, TTTLayer
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import RandomPolicy, best_mix
from ponderttt.prepare.corpora import Texts
from ponderttt.prepare.reader import Reader
from ponderttt.progress import ticker, track
from ponderttt.storage import cache_folder
from ponderttt.training import TrainerConfig, TTTTrainer
from ponderttt.training.finite import NotFinite
from ponderttt.types import CHUNK_ACTIONS

NEXT_TOKEN_GRID = [(2.0, None), (4.0, 0.05), (8.0, 0.05), (16.0, 0.05), (32.0, 0.05)]
"""(rate, clip of the gradient norm) of the additive map; its gradient norm is about 0.16."""
RECONSTRUCTION_GRID = [(0.25, None), (1.0, None), (4.0, None)]
"""Factors on the learned rates."""
MIXTURE, NEVER = (0.25, 0.25, 0.25, 0.25), (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Tuned:
    """An adapter, the random control's mix for it, and the table of what was tried."""

    adapter: Adapter
    mix: np.ndarray
    table: pd.DataFrame


def document_loss(arrays: dict[str, np.ndarray]) -> float:
    """Mean loss over a document's real tokens."""
    return float(arrays["token_nll"].sum() / arrays["mask"].sum())


def gains(
    reader: Reader, adapter: Adapter, texts: Texts, indices: list[int], actions: Sequence[str]
) -> np.ndarray:
    """Mean gain over SKIP of each action in `actions`, every source weighing the same, nats."""
    rows = []
    for i in indices:
        loss = {
            name: document_loss(reader.read(adapter, _certain(name), texts.corpus, i))
            for name in dict.fromkeys(("SKIP", *actions))
        }
        rows.append([loss["SKIP"] - loss[name] for name in actions])
    frame = pd.DataFrame(rows, index=[texts.sources[i] for i in indices])
    return frame.groupby(level=0).mean().mean().to_numpy()


def _certain(name: str) -> RandomPolicy:
    """Always the action `name`, as data: all of them are one program."""
    at = CHUNK_ACTIONS.position(name)
    return RandomPolicy(jnp.asarray(np.eye(len(CHUNK_ACTIONS.names), dtype=np.float32)[at]))


def tune(
    reader: Reader,
    make: Callable[[float, float | None], Adapter],
    grid: Sequence[tuple[float, float | None]],
    training: Texts,
    validation: Texts,
    *,
    budget: float,
    count: int,
) -> Tuned:
    """The setting of `grid` with the best mean gain of UPDATE_1 and UPDATE_4 in training.

    `make(rate, clip)` builds the adapter; `count` documents of each source are read for a setting.
    A setting under which a loss is not finite is not chosen. Validation documents then give the
    gain of each action, and so the best uninformed mix.
    """
    objective, indices = make(*grid[0]).objective, training.first_of_each(count)

    def gain(setting: tuple[float, float | None]) -> float:
        try:
            found = gains(reader, make(*setting), training, indices, ("UPDATE_1", "UPDATE_4"))
        except NotFinite:
            if setting == grid[0]:  # the gentlest
                raise
            return -np.inf
        return float(np.mean(found))

    train = [gain(setting) for setting in track(grid, f"tuning {objective}", len(grid))]
    best = int(np.argmax(train))
    adapter = make(*grid[best])
    each = gains(reader, adapter, validation, list(range(len(validation))), CHUNK_ACTIONS.names)
    table = pd.DataFrame([*grid, grid[best]], columns=["rate", "clip"], dtype=float).assign(
        objective=objective,
        split=["train"] * len(grid) + ["validation"],
        gain=[*train, float(np.mean(each[[1, 3]]))],
        chosen=[i in (best, len(grid)) for i in range(len(grid) + 1)],
    )
    return Tuned(adapter, best_mix(each, budget), table)


def next_token(rate: float, clip: float | None) -> NextToken:
    """The additive map on the last hidden state."""
    return NextToken(SGD(jnp.asarray(rate), None if clip is None else jnp.asarray(clip)))


FIRST_TRIES = {
    "sgd": (0, 1.0), "normalized": (4, 0.03), "rms": (4, 3e-4), "adamw": (4, 1e-4),
    "newton_schulz": (4, 1e-3),
}  # fmt: skip
"""By update rule: how many of the last blocks learn (0: the map on the last state), the rate."""


def layer_shape(lm: TransformerLM, texts: Texts, **options: Any) -> TTTConfig:
    """The shape of a TTT layer on the model's states, one gradient a unit of `texts`.

    Its heads are as wide as the model's, at most 64; where those do not divide the width (a
    model's heads need not), as wide as the next smaller number that does.
    """
    unit, width = texts.corpus.documents.tokens.shape[-1], lm.config.width
    most = min(64, lm.config.head_dim)
    head_dim = next(size for size in range(most, 0, -1) if width % size == 0)
    return TTTConfig(width, chunk_size=unit, head_dim=head_dim, **options)


def train_layer(
    lm: TransformerLM,
    training: Texts,
    validation: Texts,
    *,
    steps: int,
    mixture: tuple[float, ...],
    seed: int,
    name: str,
    rate_scale: float = 1.0,
    **shape_options: Any,
) -> tuple[TTTLayer, pd.DataFrame]:
    """A TTT layer trained on the cached states under `mixture`; resumed if it was begun before.

    `name` is what the table of its losses calls it; `shape_options` go to `TTTConfig`.
    """
    config = TrainerConfig(
        steps=steps, mixture=mixture, rate_scale=rate_scale, seed=seed,
        validate_every=max(1, steps // 5),
    )  # fmt: skip
    shape = layer_shape(lm, training, **shape_options)
    layer = TTTLayer(shape, rngs=nnx.Rngs(seed))
    key = fingerprint(
        code_fingerprint("ponderttt.training.adapter"), lm.fingerprint, repr(config), repr(shape),
        training.corpus.documents, validation.corpus.documents,
    )  # fmt: skip
    result = TTTTrainer(lm, layer, config).train(
        training.corpus,
        validation.corpus,
        folder=cache_folder("checkpoints") / key,
        tick=ticker(f"training the TTT layer, {name}", steps),
    )
    history = pd.DataFrame(result.history, columns=["loss", "validation"])
    history = history.assign(step=np.arange(1, steps + 1), trained=name, stopped=result.stopped)
    return result.layer, history.dropna(subset="loss")


def scaled(layer: TTTLayer) -> Callable[[float, float | None], Reconstruction]:
    """`make` for `tune`: the trained layer with its rates multiplied."""
    adapter = Reconstruction.of(layer)
    return lambda rate, clip: dataclasses.replace(
        adapter,
        scale=jnp.asarray(rate),
        clip=None if clip is None else jnp.asarray(clip),
    )
