"""Policies at work on tokens: causal, calibrated, one decision a token and row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.errors import InputError
from ponderttt.experiments.comparison.methods import Spec
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.models.iterative.model import IterativeTransformerTTT
from ponderttt.policies import EMAGate, RandomPolicy, SchedulePolicy, UniformPolicy
from ponderttt.policies.thresholds import DEFAULT_MIX, HEURISTICS, percentile_thresholds
from ponderttt.policies.token_level import WINDOW, by_policy, signal_of
from ponderttt.training.language import allocator

B, T, V = 3, 40, 64
CONFIG = IterativeTransformerConfig(
    vocab_size=V, hidden_dim=32, num_layers=3, num_heads=2, ffn_dim=64, max_length=T,
    ttt_layer_indices=(1, 2), fast_weight="linear",
)  # fmt: skip
ACTIONS = CONFIG.actions


@pytest.fixture(scope="module")
def model():
    return IterativeTransformerTTT(CONFIG)


@pytest.fixture(scope="module")
def ids():
    return jax.random.randint(jax.random.key(3), (B, T), 0, V)


def steps_of(model, ids, policy, key=0):
    reading = jax.jit(lambda ids: model.read(ids, by_policy(policy), jax.random.key(key)))(ids)
    return np.stack([np.asarray(each.steps) for each in reading.allocations]), reading


@pytest.mark.parametrize("kind", HEURISTICS)
def test_a_signal_is_causal_and_its_calibration_gives_the_mix(model, ids, kind):
    """What comes later changes no bit of a signal, a decision or a hidden state before it."""
    read = jax.jit(lambda ids: signal_of(kind, model, ids))
    signal = np.asarray(read(ids))
    assert np.isfinite(signal).all()
    assert signal.std() > 0
    at = 17
    other = ids.at[:, at].set((ids[:, at] + 1) % V)
    changed = np.asarray(read(other))
    assert (changed[:, :at] == signal[:, :at]).all()
    assert (changed[:, at:] != signal[:, at:]).any()
    policy = HEURISTICS[kind](
        jnp.asarray(percentile_thresholds(signal, DEFAULT_MIX), jnp.float32), ACTIONS
    )
    steps, reading = steps_of(model, ids, policy)
    shares = [(steps[0] == k).mean() for k in ACTIONS.steps]
    assert np.allclose(shares, DEFAULT_MIX, atol=0.03)
    assert (steps[0] == steps[1]).all()  # what the first layer decides holds for those above
    steps_after, after = steps_of(model, other, policy)
    assert (steps_after[:, :, :at] == steps[:, :, :at]).all()
    assert (np.asarray(after.hidden)[:, :at] == np.asarray(reading.hidden)[:, :at]).all()


def test_the_loss_of_a_token_is_that_of_its_own_early_prediction(model, ids):
    """Against the plain computation: the stream before the first TTT layer, norm and head."""
    seen = []

    def look(context, key):
        seen.append(context.stream)
        return by_policy(UniformPolicy("K1", ACTIONS))(context, key)

    model.read(ids, look, jax.random.key(0))
    stream = np.asarray(seen[0], np.float64)
    normed = stream / np.sqrt((stream**2).mean(axis=-1, keepdims=True) + 1e-6)
    logits = normed @ np.asarray(model.embedding[...], np.float64).T
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    of_next = np.take_along_axis(log_probs[:, :-1], np.asarray(ids)[:, 1:, None], axis=-1)[..., 0]
    loss = np.asarray(signal_of("loss", model, ids))
    assert np.allclose(loss[:, 1:], -of_next, atol=1e-4)
    assert (loss[:, 0] == 0).all()
    entropy = -(np.exp(log_probs) * log_probs).sum(axis=-1)
    assert np.allclose(signal_of("entropy", model, ids), entropy, atol=1e-4)
    perplexity = np.asarray(signal_of("perplexity", model, ids))
    assert np.allclose(perplexity[:, 20], np.exp(loss[:, 13:21].mean(axis=1)), rtol=1e-4)
    assert WINDOW // 4 == 8
    assert np.allclose(perplexity[:, 1], np.exp(loss[:, 1]), rtol=1e-4)  # what has been predicted


def test_random_steps_are_drawn_for_each_token_row_and_layer(model, ids):
    mix = (0.1, 0.2, 0.3, 0.4)
    steps, _ = steps_of(model, ids, RandomPolicy(jnp.asarray(mix), ACTIONS))
    shares = [(steps == k).mean() for k in ACTIONS.steps]
    assert np.allclose(shares, mix, atol=0.1)
    assert (steps[0] != steps[1]).any()
    assert (steps[0, 0] != steps[0, 1]).any()
    other, _ = steps_of(model, ids, RandomPolicy(jnp.asarray(mix), ACTIONS), key=1)
    assert (other != steps).any()


@pytest.mark.parametrize("shared", [False, True])
def test_a_control_draws_as_its_method_decides(model, ids, shared):
    """Once for all layers, as heuristics, or at each; in the shares that it was given."""
    method = Spec("mixture", (0.5, 0.0, 0.25, 0.25), shared=shared).method(1, 2)
    method = jax.tree.map(lambda x: x[0], method)
    read = jax.jit(lambda key: model.read(ids, allocator("mixture", CONFIG, method, None), key))
    found = [read(jax.random.key(seed)).allocations for seed in range(8)]
    steps = np.stack([[layer.steps for layer in each] for each in found])
    assert (steps[:, 0] == steps[:, 1]).all() == shared
    shares = [[(steps[:, layer] == k).mean() for k in ACTIONS.steps] for layer in (0, 1)]
    np.testing.assert_allclose(shares, [[0.5, 0.0, 0.25, 0.25]] * 2, atol=0.06)


def test_a_uniform_policy_is_one_number_of_steps(model, ids):
    steps, reading = steps_of(model, ids, UniformPolicy("K4", ACTIONS))
    assert (steps == 4).all()
    given = model(ids, num_steps=4)
    assert np.allclose(model.logits(reading.hidden), given.logits, atol=1e-5)


def test_a_schedule_knows_the_position_and_nothing_else(model, ids):
    """The per-position variant without a network: a table of probabilities by place."""
    table = np.zeros((T, 4))
    table[:10, 3], table[10:, 0] = 1, 1
    policy = SchedulePolicy(jnp.asarray(table, jnp.float32), ACTIONS)
    steps, _ = steps_of(model, ids, policy)
    assert (steps[:, :, :10] == 8).all()
    assert (steps[:, :, 10:] == 1).all()


def test_the_position_variant_of_the_network_sees_no_content(ids):
    import dataclasses

    config = dataclasses.replace(CONFIG, policy_input="position")
    model = IterativeTransformerTTT(config)
    hidden = IterativeTransformerTTT(CONFIG)
    sizes = [
        sum(x.size for x in jax.tree.leaves(m.blocks[1].mixer.policy)) for m in (model, hidden)
    ]
    assert sizes[0] == sizes[1]
    x = jax.random.normal(jax.random.key(0), (2, B, T, 32))
    first, second = (np.asarray(model.blocks[1].mixer.decide(part)) for part in x)
    assert (first == second).all()
    assert (first[0] == first[1]).all()
    assert np.ptp(first, axis=1).max() > 0
    assert (np.asarray(hidden.blocks[1].mixer.decide(x[0])) != first).any()


def test_longer_mini_batches_are_refused():
    config = IterativeTransformerConfig(
        vocab_size=V, hidden_dim=32, num_layers=2, num_heads=2, ffn_dim=64, max_length=T,
        ttt_layer_indices=(1,), fast_weight="linear", mini_batch=4,
    )  # fmt: skip
    with pytest.raises(InputError, match="token by token"):
        IterativeTransformerTTT(config).read(
            jnp.zeros((1, 8), int), by_policy(UniformPolicy("K1", ACTIONS)), jax.random.key(0)
        )


def test_a_policy_with_a_state_is_refused():
    """All tokens are decided at once: there is no order to carry a state in."""
    with pytest.raises(InputError, match="EMAGate carries a state from unit to unit"):
        by_policy(EMAGate.calibrate([1.0, 2.0]))
