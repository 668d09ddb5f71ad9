"""Training a TTT layer's slow weights through its own inner loop (DESIGN section 7)."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ponderttt.checks import REPEATS, Count, Natural, NonNegative, Positive, Seed, Share, check
from ponderttt.environment.rollout import rollout
from ponderttt.errors import InputError
from ponderttt.models.adapters.reconstruction import Reconstruction
from ponderttt.models.adapters.ttt_layer import TTTLayer
from ponderttt.models.decoder.hidden import Encoded
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import RandomPolicy
from ponderttt.storage import alone_in, writable_folder
from ponderttt.training.checkpoints import restore_checkpoint, save_checkpoint
from ponderttt.types import CHUNK_ACTIONS


@dataclass(frozen=True)
class TrainerConfig:
    """How to train. `mixture` are the probabilities of SKIP, UPDATE_1, UPDATE_2, UPDATE_4.

    A mixture serves every schedule with one set of slow weights; all its mass on SKIP trains the
    adapter without any inner step (the control that decides what updating itself is worth).
    """

    steps: Natural = 100
    batch_size: Count = 2
    learning_rate: NonNegative = 2e-3
    warmup: Natural = 10
    weight_decay: NonNegative = 0.01
    inner_weight: NonNegative = 0.1
    clip: Positive = 1.0
    mixture: Annotated[tuple[Share, ...], REPEATS] = (0.25, 0.25, 0.25, 0.25)
    rate_scale: float = 1.0
    """Factor on the inner rates; -1 climbs the inner loss: the sign-flip control."""
    validate_every: Count = 20
    patience: Count = 3
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        if len(self.mixture) != len(CHUNK_ACTIONS.names) or abs(sum(self.mixture) - 1) > 1e-6:
            raise InputError(
                f"mixture is {self.mixture}: expected one probability to each of "
                f"{', '.join(CHUNK_ACTIONS.names)}, summing to 1"
            )


class Progress(NamedTuple):
    """All that a resumed run needs: what the optimiser holds and what has been seen."""

    state: Any
    optimiser: Any
    best: Any
    history: jax.Array  # [steps, 2]: training loss, validation loss (NaN where not measured)


class TrainResult(NamedTuple):
    """The layer with the best validation loss, the losses, and why training ended."""

    layer: TTTLayer
    history: np.ndarray
    stopped: str


class Program(NamedTuple):
    """What a training step is compiled for; the mixture and the weights are its arguments."""

    graph: nnx.GraphDef
    window: Window | None
    learning_rate: float
    warmup: int
    weight_decay: float
    clip: float
    inner_weight: float

    def optimiser(self) -> optax.GradientTransformation:
        """AdamW with warm-up behind a clip of the gradient's global norm."""
        rate = optax.linear_schedule(0.0, self.learning_rate, self.warmup)
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adamw(rate, weight_decay=self.weight_decay),
        )


def outer_loss(program: Program, state, scale, lm, policy, documents, hidden, key):
    """`(CE + inner_weight * inner loss per dimension, CE)` of one rollout, means over tokens."""
    adapter = Reconstruction(program.graph, state, scale)
    episode = rollout(lm, adapter, policy, documents, key=key, window=program.window, hidden=hidden)
    tokens = jnp.maximum(jnp.sum(episode.mask), 1).astype(float)
    units = jnp.maximum(jnp.sum(jnp.any(episode.mask, axis=-1)), 1).astype(float)
    nll = jnp.sum(episode.token_nll) / tokens
    inner = jnp.sum(episode.inner_loss) / units / lm.config.width
    return nll + program.inner_weight * inner, nll


@partial(jax.jit, static_argnums=0)
def _validate(program: Program, state, scale, lm, policy, documents, hidden, key):
    return outer_loss(program, state, scale, lm, policy, documents, hidden, key)[1]


@partial(jax.jit, static_argnums=0)
def _step(program: Program, state, optimiser_state, scale, lm, policy, documents, hidden, key):
    grad = jax.value_and_grad(outer_loss, argnums=1, has_aux=True)
    (_, nll), grads = grad(program, state, scale, lm, policy, documents, hidden, key)
    updates, optimiser_state = program.optimiser().update(grads, optimiser_state, state)
    return optax.apply_updates(state, updates), optimiser_state, nll


class TTTTrainer:
    """AdamW on `CE + inner_weight * inner loss per dimension`, through the scan over units.

    The losses come from `rollout` itself (masked dispatch), actions drawn from the mixture afresh
    at every step. Batches and actions are functions of (seed, step) alone, so that a run resumed
    from its checkpoint equals an uninterrupted one bit for bit.

    >>> from ponderttt.models import TTTConfig
    >>> lm = TransformerLM.from_pretrained("tiny")
    >>> layer = TTTLayer(TTTConfig(lm.config.width, head_dim=16, chunk_size=8))
    >>> TTTTrainer(lm, layer, TrainerConfig(steps=2)).config.steps
    2
    """

    def __init__(
        self,
        lm: TransformerLM,
        layer: TTTLayer,
        config: TrainerConfig,
        *,
        window: Window | None = None,
    ):
        self.lm, self.config = lm, config
        self.graph, self.state = nnx.split(layer)
        self.program = Program(
            self.graph, window, config.learning_rate, config.warmup, config.weight_decay,
            config.clip, config.inner_weight,
        )  # fmt: skip
        self.policy = RandomPolicy(jnp.asarray(config.mixture))
        self.scale = jnp.asarray(config.rate_scale)

    def _start(self) -> Progress:
        history = jnp.full((self.config.steps, 2), jnp.nan)
        optimiser = self.program.optimiser().init(self.state)
        return Progress(self.state, optimiser, self.state, history)

    def _validation_loss(self, state, validation: Encoded) -> float:
        """Mean loss over the validation documents, one at a time, always under the same actions."""
        key = jax.random.key(self.config.seed)
        losses = []
        for i in range(validation.documents.tokens.shape[0]):
            documents, hidden = validation.batch(np.asarray([i]))
            nll = _validate(
                self.program, state, self.scale, self.lm, self.policy, documents, hidden, key
            )
            losses.append(nll)
        return float(jnp.mean(jnp.stack(losses)))

    def train(
        self,
        training: Encoded,
        validation: Encoded,
        *,
        folder: Path | str | None = None,
        tick: Callable[[], object] = lambda: None,
    ) -> TrainResult:
        """Train; with `folder`, save a checkpoint at each validation and resume from the newest.

        Of processes that train in one folder at once, the others wait and go on from what the first
        has saved. Stops early after `patience` validations without a better one, or at the first
        loss that is not finite, with the best state kept either way. `tick` is called after each
        step.
        """
        with alone_in(writable_folder(folder), wait_seconds=-1) if folder else nullcontext():
            return self._train(training, validation, folder, tick)

    def _train(self, training, validation, folder, tick) -> TrainResult:
        config, now, first, started = self.config, self._start(), 0, time.monotonic()
        restored = restore_checkpoint(folder, now._asdict()) if folder else None
        if restored:
            first, now = restored.step, Progress(**restored.tree)
            started -= restored.seconds
        n = training.documents.tokens.shape[0]
        stopped = self._verdict(np.asarray(now.history))
        for step in range(first, config.steps):
            if stopped:
                break
            key = jax.random.fold_in(jax.random.key(config.seed), step)
            draw, act = jax.random.split(key)
            index = jax.random.choice(draw, n, (min(config.batch_size, n),), replace=False)
            documents, hidden = training.batch(np.asarray(index))
            state, optimiser, nll = _step(
                self.program, now.state, now.optimiser, self.scale, self.lm, self.policy,
                documents, hidden, act,
            )  # fmt: skip
            history = now.history.at[step, 0].set(nll)
            if not jnp.isfinite(nll):
                now, stopped = now._replace(history=history), "the loss was not finite"
                break
            now = Progress(state, optimiser, now.best, history)
            if (step + 1) % config.validate_every == 0 or step + 1 == config.steps:
                now = self._validated(now, step, validation)
                stopped = self._verdict(np.asarray(now.history))
                if folder:
                    seconds = time.monotonic() - started
                    save_checkpoint(folder, step + 1, now._asdict(), seconds=seconds)
            tick()
        layer = nnx.merge(self.graph, now.best)
        return TrainResult(layer, np.asarray(now.history), stopped or "all steps taken")

    def _validated(self, now: Progress, step: int, validation: Encoded) -> Progress:
        loss = self._validation_loss(now.state, validation)
        seen = np.asarray(now.history[:, 1])
        better = loss < np.nanmin(seen, initial=np.inf)
        history = now.history.at[step, 1].set(loss)
        return now._replace(history=history, best=now.state if better else now.best)

    def _verdict(self, history: np.ndarray) -> str:
        """Why training has ended by now, or an empty string."""
        validation = history[:, 1]
        taken = np.flatnonzero(~np.isnan(validation))
        if taken.size > self.config.patience:
            since_best = taken.size - 1 - int(np.argmin(validation[taken]))
            if since_best >= self.config.patience:
                return f"no better validation loss in {self.config.patience} validations"
        return ""
