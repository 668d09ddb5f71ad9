"""The outer loop: every slow weight learns, training helps, and a resumed run is the same run."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ponderttt.errors import InputError
from ponderttt.models.adapters.ttt_layer import TTTConfig, TTTLayer
from ponderttt.models.decoder.hidden import Encoded, hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.training import TrainerConfig, TTTTrainer
from ponderttt.training.adapter import outer_loss
from ponderttt.types import Documents

U = 8
CONFIG = TrainerConfig(steps=6, batch_size=2, validate_every=2, learning_rate=1e-2, warmup=1)


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


@pytest.fixture(scope="module")
def corpus(lm):
    rng = np.random.default_rng(0)
    tokens = np.repeat(rng.integers(97, 105, (4, 1, U)), 3, axis=1).astype(np.int32)
    documents = Documents(tokens, np.ones(tokens.shape, bool), np.asarray(256))
    return Encoded(
        documents, list(np.asarray(hidden_states(lm, documents, window=Window(U, overlap=False))))
    )


def layer(fast_weight="linear"):
    config = TTTConfig(32, chunk_size=U, head_dim=16, fast_weight=fast_weight, base_rate=0.02,
                       fast_weight_hidden_dim=32)  # fmt: skip
    return TTTLayer(config, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("fast_weight", ["linear", "mlp"])
def test_every_slow_parameter_gets_a_gradient(lm, corpus, fast_weight):
    made = layer(fast_weight)
    made.wo[...] = jax.random.normal(jax.random.key(0), made.wo[...].shape) / 8
    trainer = TTTTrainer(lm, made, dataclasses.replace(CONFIG, mixture=(0.0, 0.0, 1.0, 0.0)))
    documents, hidden = corpus.batch(np.arange(2))
    key = jax.random.key(0)
    grads = jax.grad(
        lambda s: outer_loss(
            trainer.program, s, trainer.scale, lm, trainer.policy, documents, hidden, key
        )[0]
    )(trainer.state)
    for path, grad in jax.tree.leaves_with_path(grads):
        assert float(jnp.abs(grad).max()) > 0, jax.tree_util.keystr(path)


def test_training_lowers_the_loss(lm, corpus):
    result = TTTTrainer(lm, layer(), dataclasses.replace(CONFIG, steps=20)).train(corpus, corpus)
    validation = result.history[:, 1]
    assert np.nanmin(validation) < 0.98 * validation[~np.isnan(validation)][0]
    assert result.stopped == "all steps taken"


def test_a_resumed_run_is_bit_exact(lm, corpus, tmp_path):
    whole = TTTTrainer(lm, layer(), CONFIG).train(corpus, corpus, folder=tmp_path / "whole")
    ticks = iter(range(4))
    with pytest.raises(StopIteration):  # killed after a step that is not saved
        TTTTrainer(lm, layer(), CONFIG).train(
            corpus, corpus, folder=tmp_path / "killed", tick=lambda: next(ticks)
        )
    resumed = TTTTrainer(lm, layer(), CONFIG).train(corpus, corpus, folder=tmp_path / "killed")
    np.testing.assert_array_equal(whole.history, resumed.history)
    for a, b in zip(
        jax.tree.leaves(nnx.state(whole.layer)),
        jax.tree.leaves(nnx.state(resumed.layer)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_two_that_train_in_one_folder_train_once(lm, corpus, tmp_path):
    """Notebooks side by side need the same layer; both writing one checkpoint was a crash."""
    second, steps = [], []

    def other():
        trainer = TTTTrainer(lm, layer(), CONFIG)
        second.append(trainer.train(corpus, corpus, folder=tmp_path, tick=lambda: steps.append(1)))

    thread = threading.Thread(target=other)

    def tick():
        if not thread.ident:
            thread.start()
            thread.join(0.5)

    first = TTTTrainer(lm, layer(), CONFIG).train(corpus, corpus, folder=tmp_path, tick=tick)
    thread.join(60)
    assert not steps
    np.testing.assert_array_equal(first.history, second[0].history)


def test_a_loss_that_is_not_finite_stops_with_the_best_state(lm, corpus):
    poisoned = corpus._replace(hidden=[h.copy() for h in corpus.hidden])
    for h in poisoned.hidden:
        h[-1, -1, 0] = np.nan
    made = layer()
    before = jax.tree.map(np.asarray, nnx.state(made))
    result = TTTTrainer(lm, made, CONFIG).train(poisoned, corpus)
    assert result.stopped == "the loss was not finite"
    assert np.isnan(result.history[0, 0])
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(nnx.state(result.layer)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_early_stopping(lm, corpus):
    config = dataclasses.replace(CONFIG, steps=40, learning_rate=0.0, patience=2, validate_every=1)
    result = TTTTrainer(lm, layer(), config).train(corpus, corpus)
    assert "no better validation loss in 2" in result.stopped
    assert np.isfinite(result.history[:, 0]).sum() == 3


def test_a_truncated_checkpoint_is_named(lm, corpus, tmp_path):
    TTTTrainer(lm, layer(), CONFIG).train(corpus, corpus, folder=tmp_path)
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="checkpoint .* cannot be restored"):
        TTTTrainer(lm, layer(), CONFIG).train(corpus, corpus, folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixture": (0.5, 0.5)}, "one probability to each"),
        ({"mixture": (0.5, 0.5, 0.5, 0.5)}, "summing to 1"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_configuration_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **change)
