"""One method trained over all seeds and read on validation and test documents, kept on disk."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from ponderttt.cache import Arrays, cached, code_fingerprint, fingerprint
from ponderttt.data.language import LanguageCorpus
from ponderttt.data.tokenizer import vocabulary_size
from ponderttt.data.windows import Windows, epoch_order, whole_pass
from ponderttt.errors import InputError
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import Spec
from ponderttt.progress import track
from ponderttt.training.finite import check_finite
from ponderttt.training.language import (
    LanguageTrainingConfig,
    Learner,
    StepChoice,
    advance_seeds,
    score_seeds,
    start_seeds,
)

AT_ONCE = 25
"""Training steps between two ticks of the progress bar, and two calibrations of a heuristic."""


@dataclass(frozen=True, eq=False)
class Texts:
    """What every method is trained, calibrated and tested on."""

    corpus: LanguageCorpus
    training: Windows
    validation: Windows
    test: Windows


class Trained(NamedTuple):
    """What one method came to, every seed beside the others. L TTT layers, B windows of T tokens.

    `untrained` is the test loss (nats a token) before the first step.
    """

    loss: Float[np.ndarray, "S n"]
    steps: Float[np.ndarray, "S n"]
    entropy: Float[np.ndarray, "S n"]
    price: Float[np.ndarray, "S n"]
    untrained: Float[np.ndarray, "S"]
    validation_steps: Float[np.ndarray, "S L B T"]
    test_nll: Float[np.ndarray, "S B T"]
    test_steps: Float[np.ndarray, "S L B T"]


def load_texts(
    config: ComparisonConfig, corpus: LanguageCorpus, *, least: int | None = None
) -> Texts:
    """The first windows of each split; an `InputError` where there are too few.

    `least` is the fewest tokens of a test window (default: half of its length).
    """
    size, length = config.batch_size, config.max_length
    training = corpus.windows("train", length, count=config.max_train_batches * size)
    count = config.max_eval_batches * size
    validation = corpus.windows("validation", length, count=count)
    test = corpus.windows("test", length, count=count, min_tokens=least)
    for split, found in (("train", training), ("validation", validation), ("test", test)):
        if len(found) < size:
            raise InputError(
                f"{config.source!r} has {len(found)} {split} windows of {length} tokens: expected "
                f"a batch of {size} or more; lower batch_size or max_length"
            )
    return Texts(corpus, training, validation, test)


def train_method(config: ComparisonConfig, name: str, spec: Spec, texts: Texts) -> Trained:
    """`name` trained from scratch on every seed; what was done before is read from the cache."""
    settings = settings_of(config, spec, texts)

    def compute() -> Arrays:
        return _train(config, settings, name, spec, texts)._asdict()

    trained = Trained(**cached("comparison", key_of(config, settings, spec, texts), compute))
    check_curve(config, name, trained.loss)
    check_finite(
        trained.test_nll, ("seed", "window", "token"), of=f"the test loss of {name}",
        names={"seed": config.seeds}, remedy="train for fewer steps",
    )  # fmt: skip
    return trained


def check_curve(config: ComparisonConfig, name: str, loss: Float[np.ndarray, "S n"]) -> None:
    """A `NotFinite` with the step and the seed where the loss in training ceased to be finite."""
    check_finite(
        loss.T, ("step", "seed"), of=f"the training loss of {name}", names={"seed": config.seeds},
        remedy="train for fewer steps, or a smaller model",
    )  # fmt: skip


def key_of(
    config: ComparisonConfig, settings: LanguageTrainingConfig, spec: Spec, texts: Texts
) -> str:
    """What identifies a trained method on disk: the code, its settings and all that it read."""
    windows = (texts.training, texts.validation, texts.test)
    return fingerprint(
        code_fingerprint(__name__), repr(settings), spec.kind, method_of(config, settings, spec),
        repr(config.seeds), config.num_epochs, [(w.tokens, w.mask) for w in windows],
    )  # fmt: skip


def method_of(config: ComparisonConfig, settings: LanguageTrainingConfig, spec: Spec) -> StepChoice:
    """The method's arrays, for every seed and TTT layer."""
    return spec.method(len(config.seeds), len(settings.model.ttt_layer_indices))


def settings_of(config: ComparisonConfig, spec: Spec, texts: Texts) -> LanguageTrainingConfig:
    """How a method is trained on these texts, whose vocabulary it has, and on this machine."""
    settings = config.training(vocab_size=vocabulary_size(texts.corpus.tokenizer), **spec.model)
    (device,) = jnp.zeros(()).devices()  # what `--device` chose, where it did
    together = 1 if device.platform == "cpu" else len(config.seeds)  # memory allows it
    return dataclasses.replace(settings, seeds_at_once=together)


def fit(
    config: ComparisonConfig,
    settings: LanguageTrainingConfig,
    name: str,
    spec: Spec,
    texts: Texts,
    learners: Learner | None = None,
) -> tuple[Learner, dict[str, np.ndarray]]:
    """Every seed trained: the learners, and each field of `Progress` [S, n] by its name."""
    keys = _keys(config)
    if learners is None:
        learners = start_seeds(settings, keys, config.max_length)
    watch, method = _watch(config, texts), method_of(config, settings, spec)
    inputs, labels = texts.training.inputs, texts.training.labels
    order = np.stack([batch_order(config, len(texts.training), seed) for seed in config.seeds])
    history = []
    for at in track(
        range(0, config.steps, AT_ONCE), f"training {name}", -(-config.steps // AT_ONCE)
    ):
        some = order[:, at : at + AT_ONCE]
        learners, metrics = advance_seeds(
            settings, spec.kind, learners, method, jnp.asarray(inputs[some]),
            jnp.asarray(labels[some]), keys, watch,
        )  # fmt: skip
        history.append(jax.tree.map(np.asarray, metrics)._asdict())
    return learners, {
        field: np.concatenate([metrics[field] for metrics in history], axis=1)
        for field in history[0]
    }


def _train(
    config: ComparisonConfig,
    settings: LanguageTrainingConfig,
    name: str,
    spec: Spec,
    texts: Texts,
) -> Trained:
    keys, watch = _keys(config), _watch(config, texts)
    method = method_of(config, settings, spec)

    def read(learners: Learner, windows: Windows):
        inputs, labels = map(jnp.asarray, whole_pass(windows, config.batch_size))
        nll, steps = score_seeds(settings, spec.kind, learners, method, inputs, labels, keys, watch)
        count = len(windows)
        seeds, layers = nll.shape[0], steps.shape[2]
        nll = np.asarray(nll).reshape(seeds, -1, config.max_length)[:, :count]
        steps = np.moveaxis(np.asarray(steps, np.float32), 2, 1)  # S L n B T
        return nll, steps.reshape(seeds, layers, -1, steps.shape[-1])[:, :, :count]

    learners = start_seeds(settings, keys, config.max_length)
    untrained = read(learners, texts.test)[0].sum(axis=(1, 2)) / texts.test.mask.sum()
    learners, curves = fit(config, settings, name, spec, texts, learners)
    validation_steps = read(learners, texts.validation)[1]
    test_nll, test_steps = read(learners, texts.test)
    return Trained(
        **curves, untrained=untrained, validation_steps=validation_steps, test_nll=test_nll,
        test_steps=test_steps,
    )  # fmt: skip


def _keys(config: ComparisonConfig) -> jax.Array:
    return jnp.stack([jax.random.key(seed) for seed in config.seeds])


def _watch(config: ComparisonConfig, texts: Texts) -> tuple[jax.Array, jax.Array]:
    """Inputs and labels of the validation documents: what heuristics are calibrated on."""
    inputs, labels = whole_pass(texts.validation, config.batch_size)
    length = config.max_length
    return jnp.asarray(inputs.reshape(-1, length)), jnp.asarray(labels.reshape(-1, length))


def realised_mix(
    steps: Float[np.ndarray, "S L B T"], mask: Bool[np.ndarray, "B T"], options: tuple[int, ...]
) -> Float[np.ndarray, "S L A"]:
    """The share of each option among the decisions that each seed took at each TTT layer."""
    taken = steps[:, :, mask]
    return np.stack([(taken == option).mean(axis=-1) for option in options], axis=-1)


def batch_order(config: ComparisonConfig, count: int, seed: int) -> Int[np.ndarray, "n B"]:
    """Which windows each training step reads: every epoch in an order of its own."""
    size = config.batch_size
    epochs = [epoch_order(count, seed, epoch) for epoch in range(config.num_epochs)]
    per_epoch = config.max_train_batches * size
    rows = [np.resize(order, per_epoch) for order in epochs]  # a short epoch begins again
    return np.concatenate(rows).reshape(-1, size)
