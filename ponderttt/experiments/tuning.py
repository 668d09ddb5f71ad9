"""Adapters made ready on training documents: rates tuned, slow weights trained."""

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx

from ponderttt.experiments.corpora import Texts
from ponderttt.experiments.episodes import fingerprint, read
from ponderttt.experiments.progress import track
from ponderttt.models.adapters import Adapter, NextToken, Reconstruction
from ponderttt.models.lm import TransformerLM
from ponderttt.models.ttt_layer import TTTConfig, TTTLayer
from ponderttt.policies import Fixed, best_mix
from ponderttt.storage import cache_folder
from ponderttt.training import TrainerConfig, TTTTrainer
from ponderttt.types import CHUNK_ACTIONS

NEXT_TOKEN_GRID = [(1.0, None), (2.0, None), (2.0, 0.1), (4.0, 0.05), (8.0, 0.05)]
"""(rate, clip of the gradient norm) of the additive map; its gradient norm is about 0.16."""
RECONSTRUCTION_GRID = [(0.5, None), (1.0, None), (2.0, None)]
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
    lm: TransformerLM, adapter: Adapter, texts: Texts, indices: list[int], actions, **how
) -> np.ndarray:
    """Mean gain over SKIP of each action in `actions`, every source weighing the same, nats."""
    rows = []
    for i in indices:
        loss = {
            name: document_loss(read(lm, adapter, Fixed(name), texts.corpus, i, **how))
            for name in dict.fromkeys(("SKIP", *actions))
        }
        rows.append([loss["SKIP"] - loss[name] for name in actions])
    frame = pd.DataFrame(rows, index=[texts.sources[i] for i in indices])
    return frame.groupby(level=0).mean().mean().to_numpy()


def tune(
    lm: TransformerLM,
    make,
    grid: list[tuple[float, float | None]],
    training: Texts,
    validation: Texts,
    *,
    objective: str,
    budget: float,
    count: int,
    **how,
) -> Tuned:
    """The setting of `grid` with the best mean gain of UPDATE_1 and UPDATE_4 in training.

    `make(rate, clip)` builds the adapter; `count` documents of each source are read for a setting.
    Validation documents then give the gain of each action, and so the best uninformed mix.
    """
    tried = []
    for rate, clip in track(grid, f"tuning {objective}", len(grid)):
        actions = ("UPDATE_1", "UPDATE_4")
        each = gains(lm, make(rate, clip), training, training.first_of_each(count), actions, **how)
        tried.append(
            {"rate": rate, "clip": clip, "split": "train", "gain": float(np.mean(each))}
        )
    best = int(np.argmax([row["gain"] for row in tried]))
    adapter = make(*grid[best])
    everything = list(range(len(validation)))
    each = gains(lm, adapter, validation, everything, CHUNK_ACTIONS.names, **how)
    chosen = tried[best] | {"split": "validation", "gain": float(np.mean(each[[1, 3]]))}
    table = pd.DataFrame([*tried, chosen]).assign(objective=objective)
    table["chosen"] = [i in (best, len(tried)) for i in range(len(table))]
    return Tuned(adapter, best_mix(each, budget), table)


def next_token(rate: float, clip: float | None) -> NextToken:
    """The additive map on the last hidden state."""
    return NextToken(jnp.asarray(rate), None if clip is None else jnp.asarray(clip))


def train_layer(
    lm: TransformerLM,
    training: Texts,
    validation: Texts,
    *,
    steps: int,
    mixture: tuple[float, ...],
    seed: int,
) -> tuple[TTTLayer, pd.DataFrame]:
    """A TTT layer trained on the cached states under `mixture`; resumed if it was begun before."""
    config = TrainerConfig(
        steps=steps, mixture=mixture, seed=seed, validate_every=max(1, steps // 5)
    )
    unit = training.corpus.documents.tokens.shape[-1]
    shape = TTTConfig(
        lm.config.width, chunk_size=unit, head_dim=min(64, lm.config.head_dim)
    )
    layer = TTTLayer(shape, rngs=nnx.Rngs(seed))
    key = fingerprint(
        lm.fingerprint, repr(config), repr(shape),
        training.corpus.documents, validation.corpus.documents,
    )  # fmt: skip
    name = "rate 0" if mixture == NEVER else "mixture"
    bar = track(range(steps), f"training the TTT layer, {name}", steps)
    result = TTTTrainer(lm, layer, config).train(
        training.corpus,
        validation.corpus,
        folder=cache_folder("checkpoints") / key,
        tick=lambda: next(bar, None),
    )
    history = pd.DataFrame(result.history, columns=["loss", "validation"])
    history = history.assign(step=np.arange(1, steps + 1), trained=name, stopped=result.stopped)
    return result.layer, history.dropna(subset="loss")


def scaled(layer: TTTLayer):
    """`make` for `tune`: the trained layer with its rates multiplied."""
    adapter = Reconstruction.of(layer)
    return lambda rate, clip: dataclasses.replace(
        adapter,
        scale=jnp.asarray(rate),
        clip=None if clip is None else jnp.asarray(clip),
    )


