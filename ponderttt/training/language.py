"""A transformer with TTT layers trained from scratch on text, together with what decides its steps.

One program for each way of deciding (`kind`); what differs between methods of one kind, and
between seeds, are arrays. Axes: S seeds, B documents, T tokens, A options, L TTT layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from ponderttt.checks import Count, Natural, NonNegative, Positive, check
from ponderttt.errors import InputError
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.models.iterative.model import (
    Allocate,
    Context,
    IterativeTransformerTTT,
    drawn_halting,
    mixed_halting,
)
from ponderttt.models.iterative.ttt_mixer import Allocation
from ponderttt.policies.thresholds import HEURISTICS
from ponderttt.policies.token_level import by_policy, signal_of
from ponderttt.training.reinforce import Baseline, credit, price, surrogate
from ponderttt.types import IGNORED

Kind = Literal["mixture", "learned", "expected", "entropy", "loss", "gradient_norm", "perplexity"]


class StepChoice(NamedTuple):
    """What tells methods of one kind apart: arrays, so that they share a program.

    `mixture` is what options are drawn from at each TTT layer (`shared`: at the first one, for all
    of them, as heuristics decide), or what a heuristic's thresholds are calibrated to; `weight` and
    `target` (NaN: none) make the penalty of a learned policy. Each has an axis of seeds in front
    where several are trained.
    """

    mixture: Float[Array, "*S L A"]
    weight: Float[Array, "*S"]
    target: Float[Array, "*S"]
    shared: Bool[Array, "*S"]


@dataclass(frozen=True)
class LanguageTrainingConfig:
    """How to train: AdamW with warm-up and a cosine, behind a clip of the gradient's norm."""

    model: IterativeTransformerConfig
    steps: Count = 200
    batch_size: Count = 8
    learning_rate: NonNegative = 1e-2
    policy_rate: NonNegative = 1e-2
    warmup: Natural = 20
    weight_decay: NonNegative = 0.01
    clip: Positive = 1.0
    seeds_at_once: Count = 1
    """Seeds that are vmapped; the others wait their turn in the same program."""

    def __post_init__(self):
        check(self)

    def check(self, kind: Kind) -> None:
        """An `InputError` where a model of this shape cannot be trained this way."""
        model = self.model
        exact = model.fast_weight == "linear" and not model.norm and model.mini_batch == 1
        if kind == "expected" and not exact:
            raise InputError(
                "the exact expectation over steps is known for linear fast weights without a norm, "
                "token by token: leave out the methods expected_*, or set fast_weight=linear"
            )
        if kind not in ("mixture", "expected") and model.mini_batch > 1:
            raise InputError(
                f"mini_batch is {model.mini_batch}: policies are trained token by token; expected 1"
            )

    def optimiser(self) -> optax.GradientTransformation:
        """One for the language model, one for the halting networks: neither clips the other."""

        def chain(peak: float) -> optax.GradientTransformation:
            warmup = min(self.warmup, max(1, self.steps // 2))
            rate = optax.warmup_cosine_decay_schedule(
                0.0, peak, warmup, max(self.steps, warmup + 1), 0.1 * peak
            )
            return optax.chain(
                optax.clip_by_global_norm(self.clip),
                optax.adamw(rate, b2=0.99, weight_decay=self.weight_decay),
            )

        def label(path, _) -> str:
            return "policy" if any(getattr(p, "key", None) == "policy" for p in path) else "model"

        return optax.partition(
            {"model": chain(self.learning_rate), "policy": chain(self.policy_rate)},
            lambda params: jax.tree_util.tree_map_with_path(label, params),
        )


class Learner(NamedTuple):
    """All that a training step hands to the next; under `Run` with a leading axis of seeds."""

    params: Any
    optimiser: Any
    baseline: Baseline
    mean_steps: Float[Array, ""]
    """A moving average over batches: what the penalty's slope is taken at."""
    thresholds: Float[Array, "thresholds"]
    step: Int[Array, ""]


class Progress(NamedTuple):
    """Of one training step: mean loss (nats a token), mean steps, entropy of the policy, price."""

    loss: Float[Array, "*S"]
    steps: Float[Array, "*S"]
    entropy: Float[Array, "*S"]
    price: Float[Array, "*S"]


def graph_of(config: IterativeTransformerConfig) -> nnx.GraphDef:
    """All of the model but its parameters."""
    return nnx.graphdef(nnx.eval_shape(lambda: IterativeTransformerTTT(config)))


def start(config: LanguageTrainingConfig, key: PRNGKeyArray, length: int) -> Learner:
    """A new model for texts of `length` tokens."""
    params = nnx.state(IterativeTransformerTTT(config.model, rngs=nnx.Rngs(key)), nnx.Param)
    return Learner(
        params, config.optimiser().init(params), Baseline.start(length), jnp.zeros(()),
        jnp.zeros(len(config.model.step_options) - 1), jnp.zeros((), jnp.int32),
    )  # fmt: skip


def allocator(
    kind: Kind, config: IterativeTransformerConfig, method: StepChoice, thresholds
) -> Allocate:
    """Who decides the steps under this kind."""
    if kind == "learned":
        return drawn_halting
    if kind == "expected":
        return mixed_halting
    if kind == "mixture":
        return partial(_drawn, method)
    return by_policy(HEURISTICS[kind](thresholds, config.actions))


def _drawn(method: StepChoice, context: Context, key: PRNGKeyArray) -> Allocation:
    """An option for every token alike."""
    b, t = context.input_ids.shape
    logits = jnp.log(method.mixture[context.number])
    shape = (b, t // context.model.config.mini_batch)
    action = jax.random.categorical(key, logits, shape=shape)
    if context.before is not None and context.before.action is not None:
        action = jnp.where(method.shared, context.before.action, action)
    return Allocation(jnp.asarray(context.model.config.step_options)[action], action=action)


def objective(
    config: LanguageTrainingConfig, kind: Kind, graph, params, learner: Learner, method: StepChoice,
    batch: tuple[Int[Array, "B T"], Int[Array, "B T"]], key: PRNGKeyArray,
):  # fmt: skip
    """The loss to descend on one batch, with what is to be told of it; pure.

    Of the learned kind: the language model's loss, and REINFORCE's surrogate for the halting
    networks, whose reward is minus the loss of the token that the decision came before. Of the
    expected kind: the loss at the expected fast weights, and the penalty's slope times the mean
    steps, whose gradient is the penalty's.
    """
    inputs, labels = batch
    model = nnx.merge(graph, params)
    reading = model.read(inputs, allocator(kind, config.model, method, learner.thresholds), key)
    total, nll = model.loss(reading.hidden, labels)
    loss, mask = total, labels != IGNORED
    steps = jnp.mean(jnp.stack([a.steps for a in reading.allocations]), axis=0, dtype=float)
    steps = jnp.repeat(steps, config.model.mini_batch, axis=1)
    mean_steps = jnp.sum(jnp.where(mask, steps, 0.0)) / jnp.maximum(jnp.sum(mask), 1).astype(float)
    smooth = jnp.where(learner.step == 0, mean_steps, 0.9 * learner.mean_steps + 0.1 * mean_steps)
    baseline, entropy, cost = learner.baseline, jnp.zeros(()), jnp.zeros(())
    if kind in ("learned", "expected"):
        log_probs = jnp.stack([a.log_probs for a in reading.allocations])  # L B N A
        entropy = -jnp.mean(jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1))
    if kind == "learned":
        cost = price(jax.lax.stop_gradient(smooth), method.weight, method.target)
        advantage, baseline = credit(
            -nll, steps, mask, baseline, price=cost,
            gamma=config.model.gamma, momentum=config.model.baseline_momentum,
        )  # fmt: skip
        action = jnp.stack([a.action for a in reading.allocations])
        log_prob = jnp.sum(jnp.take_along_axis(log_probs, action[..., None], axis=-1), (0, -1))
        total = total + surrogate(log_prob, advantage, mask)
    if kind == "expected":
        cost = price(jax.lax.stop_gradient(mean_steps), method.weight, method.target)
        total = total + cost * mean_steps
    return total, (Progress(loss, mean_steps, entropy, cost), baseline, smooth)


def advance(
    config: LanguageTrainingConfig, kind: Kind, learner: Learner, method: StepChoice,
    inputs: Int[Array, "n B T"], labels: Int[Array, "n B T"], key: PRNGKeyArray,
) -> tuple[Learner, Progress]:  # fmt: skip
    """So many training steps of one seed; the key is the seed's, folded with each step."""
    graph, optimiser = graph_of(config.model), config.optimiser()

    def step(learner: Learner, batch):
        def loss(params):
            here = jax.random.fold_in(key, learner.step)
            return objective(config, kind, graph, params, learner, method, batch, here)

        grads, (metrics, baseline, smooth) = jax.grad(loss, has_aux=True)(learner.params)
        updates, state = optimiser.update(grads, learner.optimiser, learner.params)
        params = optax.apply_updates(learner.params, updates)
        return Learner(
            params, state, baseline, smooth, learner.thresholds, learner.step + 1
        ), metrics

    return jax.lax.scan(step, learner, (inputs, labels))


def calibrated(
    config: LanguageTrainingConfig, kind: Kind, learner: Learner, method: StepChoice,
    inputs: Int[Array, "B T"], labels: Int[Array, "B T"],
) -> Learner:  # fmt: skip
    """With a heuristic's thresholds set to the mixture on these (validation) documents."""
    if kind not in HEURISTICS:
        return learner
    model = nnx.merge(graph_of(config.model), learner.params)
    signal = signal_of(kind, model, inputs)
    values = jnp.where(labels != IGNORED, signal, jnp.nan)
    shares = jnp.clip(jnp.cumsum(method.mixture[0])[:-1], 0.0, 1.0)
    return learner._replace(thresholds=jnp.nanquantile(values, shares))


def score(
    config: LanguageTrainingConfig, kind: Kind, learner: Learner, method: StepChoice,
    inputs: Int[Array, "n B T"], labels: Int[Array, "n B T"], key: PRNGKeyArray,
) -> tuple[Float[Array, "n B T"], Num[Array, "n L B N"]]:  # fmt: skip
    """The loss of each token and the steps of each TTT layer, batch after batch, of one seed."""
    model = nnx.merge(graph_of(config.model), learner.params)
    allocate = allocator(kind, config.model, method, learner.thresholds)

    def read(number, batch):
        reading = model.read(batch[0], allocate, jax.random.fold_in(key, number))
        steps = jnp.stack([a.steps for a in reading.allocations])
        return number + 1, (model.loss(reading.hidden, batch[1])[1], steps)

    return jax.lax.scan(read, 0, (inputs, labels))[1]


def _over_seeds(config: LanguageTrainingConfig, function: Callable, *arrays):
    """`function` of every seed's arrays, `seeds_at_once` of them vmapped."""
    size = config.seeds_at_once
    return jax.lax.map(lambda x: function(*x), arrays, batch_size=size if size > 1 else None)


@partial(jax.jit, static_argnums=(0, 2))
def start_seeds(config: LanguageTrainingConfig, keys, length: int) -> Learner:
    """`start` of every seed, stacked."""
    return _over_seeds(config, lambda key: start(config, key, length), keys)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def advance_seeds(
    config: LanguageTrainingConfig, kind: Kind, learners: Learner, method: StepChoice,
    inputs: Int[Array, "S n B T"], labels: Int[Array, "S n B T"], keys,
    validation: tuple[Int[Array, "validation T"], Int[Array, "validation T"]],
) -> tuple[Learner, Progress]:  # fmt: skip
    """Every seed's next training steps, on batches of its own; thresholds are set first."""

    def one(learner, method, inputs, labels, key):
        learner = calibrated(config, kind, learner, method, *validation)
        return advance(config, kind, learner, method, inputs, labels, key)

    return _over_seeds(config, one, learners, method, inputs, labels, keys)


@partial(jax.jit, static_argnums=(0, 1))
def score_seeds(
    config: LanguageTrainingConfig, kind: Kind, learners: Learner, method: StepChoice,
    inputs: Int[Array, "n B T"], labels: Int[Array, "n B T"], keys,
    validation: tuple[Int[Array, "validation T"], Int[Array, "validation T"]],
) -> tuple[Float[Array, "S n B T"], Num[Array, "S n L B N"]]:  # fmt: skip
    """`score` of every seed on the same documents, thresholds set on validation first."""

    def one(learner, method, key):
        learner = calibrated(config, kind, learner, method, *validation)
        return score(config, kind, learner, method, inputs, labels, key)

    return _over_seeds(config, one, learners, method, keys)
