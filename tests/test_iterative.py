"""The transformer with TTT layers: causal, per token, carried, differentiable, fairly counted."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ponderttt.inner import learn
from ponderttt.models import IterativeTransformerConfig, IterativeTransformerTTT
from ponderttt.models.iterative import (
    IGNORED,
    drawn_halting,
    given,
    halting,
    mixed_halting,
)
from ponderttt.models.ttt_mixer import Allocation, TTTMixer
from ponderttt.types import InputError

T, V = 8, 32
VARIANTS = {
    f"{model}-{'norm' if norm else 'plain'}-{rate}-{size}": {
        "fast_weight": model, "norm": norm, "rate": rate, "mini_batch": size
    }
    for model in ("linear", "mlp")
    for norm in (False, True)
    for rate in ("fixed", "position")
    for size in (1, 4)
}  # fmt: skip
REFERENCE = {
    f"reference-{model}": {
        "ttt_layer": "reference", "fast_weight": model, "use_learned_policy": False
    }
    for model in ("linear", "mlp")
}  # fmt: skip


def config_of(**changes):
    sizes = dict(
        vocab_size=V, hidden_dim=16, num_layers=2, num_heads=2, ffn_dim=32, max_length=16,
        ttt_layer_indices=(1,), fast_weight_hidden_dim=8, policy_hidden_dim=4,
    )  # fmt: skip
    return IterativeTransformerConfig(**(sizes | changes))


def model_of(**changes):
    """With halting networks of strong opinions, so that tokens get different steps."""
    model = IterativeTransformerTTT(config_of(**changes), rngs=nnx.Rngs(1))
    for block in model.blocks[1:]:
        block.mixer.policy.logit_kernel[...] *= 300
    return model


def text(b=2, t=T, seed=0):
    return jax.random.randint(jax.random.key(seed), (b, t), 0, V)


def some_steps(b=2, n=T, seed=3):
    return jax.random.randint(jax.random.key(seed), (b, n), 0, 9)


def reader(model, allocate):
    """A compiled `(ids, steps) -> (logits, steps of the TTT layers)`; `allocate` may use steps."""
    graph, state = nnx.split(model)

    @jax.jit
    def read(state, ids, steps):
        model = nnx.merge(graph, state)
        reading = model.read(ids, allocate(steps), jax.random.key(5))
        return model.logits(reading.hidden), jnp.stack([told.steps for told in reading.allocations])

    return partial(read, state)


def same_bits(a, b):
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def by_row(steps):
    """Row 0 by given steps, row 1 by the likeliest option, row 2 by a drawn one, and so on."""

    def allocate(context, key):
        ways = [way(context, key).steps for way in (given(steps), halting, drawn_halting)]
        row = jnp.arange(len(steps))[:, None] % 3
        return Allocation(jnp.select([row == i for i in range(3)], ways))

    return allocate


def changes_nothing_before(model, allocate):
    ids, size = text(6), model.config.mini_batch
    read = reader(model, allocate)
    steps = some_steps(6, T // size)
    logits, told = read(ids, steps)
    assert len(np.unique(told)) > 1  # else decisions could not tell
    for t in range(T):
        # The first three documents change, the others do not.
        changed, decided = read(ids.at[:3, t].set((ids[:3, t] + 1) % V), steps)
        assert same_bits(changed[:3, :t], logits[:3, :t])
        assert not np.any(np.all(changed[:3, t] == logits[:3, t], axis=-1))
        assert same_bits(decided[:, :3, : t // size], told[:, :3, : t // size])
        assert same_bits(changed[3:], logits[3:]) and same_bits(decided[:, 3:], told[:, 3:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_token_changes_nothing_before_it_nor_in_another_document(variant):
    changes_nothing_before(model_of(**VARIANTS[variant]), by_row)


@pytest.mark.parametrize("variant", REFERENCE)
def test_the_reference_layer_is_causal(variant):
    changes_nothing_before(model_of(**REFERENCE[variant]), given)


@pytest.mark.parametrize("rate", ["fixed", "position"])
def test_the_mixed_allocation_is_causal(rate):
    model = model_of(fast_weight="linear", rate=rate, ttt_layer_indices=(0, 1))
    changes_nothing_before(model, lambda steps: mixed_halting)


def test_decisions_of_two_layers_are_causal():
    changes_nothing_before(model_of(num_layers=3, ttt_layer_indices=(1, 2)), by_row)


@pytest.mark.parametrize("variant", ["linear-plain-fixed-1", "mlp-norm-position-4"])
def test_steps_are_each_tokens_own(variant):
    model = model_of(**VARIANTS[variant])
    size, read = model.config.mini_batch, reader(model, given)
    ids, steps = text(8), some_steps(8, T // size).at[0, 0].set(1).at[0, 1].set(8)
    own, told = read(ids, steps)
    np.testing.assert_array_equal(told[0], steps)
    most = jnp.broadcast_to(steps.max(axis=1, keepdims=True), steps.shape)
    assert float(jnp.abs(own - read(ids, most)[0]).max()) > 1e-4
    assert same_bits(own[:, : size - 1], read(ids, most)[0][:, : size - 1])
    alone = jnp.concatenate([read(ids[i][None], steps[i][None])[0] for i in range(8)])
    np.testing.assert_allclose(alone, own, atol=1e-5)
    # The first unit's steps reach its own token, or the next unit where they come after it.
    first = 0 if size == 1 else size
    other = read(ids, steps.at[0, 0].set(2))[0]
    same = [same_bits(own[0, t], other[0, t]) for t in range(T)]
    assert same == [t < first for t in range(T)]
    assert same_bits(own[1:], other[1:])


def each_token_alone(mixer, monkeypatch):
    """Fast weights that forget: every token is a document of its own."""
    call = TTTMixer.__call__

    def forgetful(self, x, allocation):
        b, t, width = x.shape
        alone = Allocation(allocation.steps.reshape(b * t, 1))
        return call(self, x.reshape(b * t, 1, width), alone).reshape(b, t, width)

    monkeypatch.setattr(mixer, "__call__", forgetful)


@pytest.mark.parametrize("fast_weight", ["linear", "mlp"])
def test_the_fast_weights_are_carried(fast_weight, monkeypatch):
    model, ids = model_of(fast_weight=fast_weight), text()

    def losses():
        run = nnx.jit(lambda model, ids: model(input_ids=ids, labels=ids, num_steps=4))
        return [float(run(model, part).loss) for part in (ids, ids[:, :1])]

    kept = losses()
    each_token_alone(TTTMixer, monkeypatch)
    lost = losses()
    assert abs(kept[0] - lost[0]) > 1e-4
    assert kept[1] == pytest.approx(lost[1], abs=1e-6)  # a single token has nothing to forget


def gradients(model, allocate):
    """A compiled `steps -> {name: gradient of the loss}`."""
    graph, state = nnx.split(model, nnx.Param)
    ids = text()

    @jax.jit
    def slope(steps):
        def loss(state):
            model = nnx.merge(graph, state)
            hidden = model.read(ids, allocate(steps), jax.random.key(2)).hidden
            return model.loss(hidden, jnp.roll(ids, -1, axis=1))[0]

        return jax.grad(loss)(state)

    def named(steps):
        leaves = jax.tree_util.tree_leaves_with_path(slope(steps))
        return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}

    return named


@pytest.mark.parametrize(
    "changes",
    [
        {"fast_weight": "linear"},
        {"fast_weight": "linear", "learned_rate": True, "rate": "position"},
        {"fast_weight": "mlp", "learned_rate": True, "norm": True},
        {"fast_weight": "mlp", "rate": "position", "mini_batch": 4},
        *REFERENCE.values(),
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_slow_parameter_gets_a_gradient_and_no_halting_network(changes):
    model = model_of(**changes)
    slope = gradients(model, given)
    units = jnp.ones((2, T // model.config.mini_batch), int)
    grads = slope(2 * units)
    learned = model.config.learned_rate
    for name, grad in grads.items():
        assert np.isfinite(grad).all(), name
        frozen = "policy" in name or ("log_rate" in name and not learned)
        assert bool(np.any(grad)) != frozen, name
    if model.config.ttt_layer == "reference":
        return
    assert any("initial" in name for name in grads)
    assert ("rate" in changes) == any("learned_position" in name for name in grads)
    # Keys and values are used by the inner loop alone: without steps they get nothing.
    qkv = [name for name in grads if "qkv" in name and "blocks" in name][-1]
    without = slope(0 * units)
    assert np.any(grads[qkv][:, 16:32]) and np.any(grads[qkv][:, 32:])
    assert not np.any(without[qkv][:, 16:]) and np.any(without[qkv][:, :16])


def test_only_the_exact_expectation_trains_the_halting_networks_by_the_loss():
    model = model_of(fast_weight="linear")
    for allocate, trained in ((halting, False), (drawn_halting, False), (mixed_halting, True)):
        grads = gradients(model, lambda steps, allocate=allocate: allocate)(0)
        for name, grad in grads.items():
            assert bool(np.any(grad)) == (
                "log_rate" not in name and (trained or "policy" not in name)
            )


@pytest.mark.parametrize(
    "changes",
    [
        {"fast_weight": "linear"},
        {"fast_weight": "mlp", "norm": True},
        {"fast_weight": "mlp", "mini_batch": 4},
        REFERENCE["reference-mlp"],
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_five_steps_lower_the_loss(changes):
    graph, state = nnx.split(model_of(**changes), nnx.Param)
    ids, optimizer = text(4), optax.adamw(3e-3)

    @jax.jit
    def step(state, moments):
        def loss(state):
            labels = jnp.roll(ids, -1, axis=1).at[:, -1].set(IGNORED)
            return nnx.merge(graph, state)(input_ids=ids, labels=labels, num_steps=2).loss

        value, grads = jax.value_and_grad(loss)(state)
        updates, moments = optimizer.update(grads, moments, state)
        return optax.apply_updates(state, updates), moments, value

    moments, values = optimizer.init(state), []
    for _ in range(6):
        state, moments, value = step(state, moments)
        values.append(float(value))
    assert np.all(np.diff(values) < 0) and values[-1] < values[0] - 0.1


def params_of(config):
    return nnx.eval_shape(lambda: IterativeTransformerTTT(config)).num_params


def test_every_method_has_the_same_number_of_parameters():
    changes = [
        *({"max_steps": k, "step_options": (1, k, k + 1, k + 2)} for k in (2, 3, 4, 5, 6)),
        *({"use_learned_policy": learned} for learned in (True, False)),
        *({"policy_input": seen} for seen in ("hidden", "position")),
        *({"lambda_compute": price, "target_avg_steps": None} for price in (0.01, 0.05)),
        {"learned_rate": True},
        {"mini_batch": 4},
    ]
    for each in changes:
        if "max_steps" in each:
            each["max_steps"] += 2
            each["target_avg_steps"] = None
    assert {params_of(config_of(**each)) for each in changes} == {params_of(config_of())}


def test_the_seeds_parameters_by_hand():
    width, hidden, ffn, vocabulary = 512, 64, 2048, 50257
    attention = 4 * width**2
    policy = width * 16 + 16 + 16 * 4 + 4
    fast = 8 * (2 * 64 * hidden + hidden + 64)
    ttt = 4 * width**2 + policy + fast + 8
    blocks = 6 * (2 * width * ffn + 2 * width) + 3 * attention + 3 * ttt
    expected = (vocabulary + 256 + 1) * width + blocks
    config = IterativeTransformerConfig()
    assert params_of(config) == expected == 44_973_340


def test_the_mixed_allocation_is_the_mean_over_all_allocations():
    options, width = (1, 4), 16
    config = config_of(
        fast_weight="linear", step_options=options, target_avg_steps=None, ttt_base_lr=0.4
    )
    mixer = TTTMixer(config, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (1, 3, width))
    shares = jax.nn.softmax(2 * jax.random.normal(jax.random.key(2), (1, 3, 2)))
    mean = jnp.zeros_like(x)
    for actions in itertools.product(range(2), repeat=3):
        weight = np.prod([float(shares[0, t, a]) for t, a in enumerate(actions)])
        mean += weight * mixer(x, Allocation(jnp.asarray([[options[a] for a in actions]])))
    told = Allocation(shares @ jnp.asarray(options, jnp.float32), jnp.log(shares), mixed=True)
    np.testing.assert_allclose(mixer(x, told), mean, atol=1e-5)
    # It is no reading at the mean number of steps, nor at the likeliest.
    for steps in (jnp.round(told.steps).astype(int), jnp.asarray(options)[shares.argmax(-1)]):
        assert float(jnp.abs(mixer(x, Allocation(steps)) - mean).max()) > 1e-3


@pytest.mark.parametrize(
    "changes",
    [{"fast_weight": "mlp"}, {"fast_weight": "linear", "norm": True},
     {"fast_weight": "linear", "mini_batch": 4}],
)  # fmt: skip
def test_what_has_no_exact_expectation_says_so(changes):
    with pytest.raises(InputError, match="exact expectation.*draw the steps instead"):
        model_of(**changes).read(text(), mixed_halting, jax.random.key(0))


@pytest.mark.parametrize("fast_weight", ["linear", "mlp"])
def test_more_steps_bring_the_fast_weights_nearer_to_their_values(fast_weight):
    mixer = TTTMixer(config_of(fast_weight=fast_weight), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (3, T, 16))
    _, k, v = mixer.views(x)

    @jax.jit
    def errors(steps):
        """At each token, of what the weights that it leaves say of its key."""
        said, _ = learn(
            mixer.initial_fast(3), k, k, v, rate=mixer.rates(3, T), steps=steps, max_steps=8,
            model=fast_weight,
        )  # fmt: skip
        return jnp.sum((said - v) ** 2, axis=-1)

    found = np.stack([errors(jnp.full((3, 2, T), steps)) for steps in (0, 1, 2, 4, 8)])
    assert np.all(np.diff(found[:, :, :, 0], axis=0) < 0)  # the first token of every head
    assert np.all(np.diff(found.mean(axis=(1, 2, 3))) < 0)


def test_the_seeds_usage():
    config = IterativeTransformerConfig(
        vocab_size=64, hidden_dim=16, num_layers=6, num_heads=2, ffn_dim=32,
        ttt_layer_indices=[2, 3, 4], max_steps=8, use_learned_policy=True,
        step_options=[1, 2, 4, 8],
    )  # fmt: skip
    model = IterativeTransformerTTT(config)
    ids, labels = text(2, 12), text(2, 12, seed=1)
    outputs = model(input_ids=ids, labels=labels, num_steps=None, return_stats=True)
    assert np.log(64) - 2 < outputs["loss"].item() < np.log(64) + 2
    assert len(outputs["ttt_stats"]) == 3
    for i, stats in enumerate(outputs["ttt_stats"]):
        assert 1 <= float(f"{stats['avg_steps']:.2f}") <= 8
        np.testing.assert_allclose(stats["distribution"].sum(), 1, rtol=1e-6)
        mean = stats["distribution"] @ jnp.asarray(config.step_options, jnp.float32)
        np.testing.assert_allclose(outputs["ttt_stats"][i]["avg_steps"], mean, rtol=1e-6)
    bare = model(input_ids=ids, num_steps=2, return_stats=False)
    assert bare.logits.shape == (2, 12, 64) and bare.loss is None and bare["ttt_stats"] == ()


def test_the_loss_is_the_mean_over_what_is_scored():
    model, ids = model_of(fast_weight="linear"), text()
    labels = jnp.roll(ids, -1, axis=1).at[:, -1].set(IGNORED).at[0, 2].set(IGNORED)
    outputs = model(input_ids=ids, labels=labels, num_steps=1)
    log_probs = jax.nn.log_softmax(model(input_ids=ids, num_steps=1).logits)
    scored = np.asarray(labels != IGNORED)
    each = -np.take_along_axis(np.asarray(log_probs), np.where(scored, labels, 0)[..., None], 2)
    np.testing.assert_allclose(outputs.nll, each[..., 0] * scored, atol=1e-5)
    assert outputs.loss.item() == pytest.approx(each[..., 0][scored].mean(), abs=1e-5)
    nothing = model(input_ids=ids, labels=jnp.full_like(ids, IGNORED), num_steps=1)
    assert nothing.loss.item() == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step_options": (2, 1)}, r"step_options \[2, 1\]: expected .* ascending"),
        ({"step_options": (1, 1)}, "each once"),
        ({"step_options": (-1, 1)}, "whole numbers of 0 or more"),
        ({"step_options": ()}, "step_options is empty: expected one number"),
        ({"step_options": (1, 16)}, "up to 16: expected at most max_steps = 8"),
        ({"ttt_layer_indices": (3,)}, "ttt_layer_indices holds 3: the model has blocks 0 to 2"),
        ({"ttt_layer_indices": (-1,)}, "ttt_layer_indices holds -1"),
        ({"ttt_layer_indices": ()}, "ttt_layer_indices is empty"),
        ({"target_avg_steps": 9.0}, "target_avg_steps is 9: .* expected 1 to 8, or None"),
        ({"target_avg_steps": 0.5}, "target_avg_steps is 0.5"),
        ({"num_heads": 3}, "num_heads 3 does not divide hidden_dim 16"),
        ({"hidden_dim": 0}, "hidden_dim is 0: expected a whole number of 1 or more"),
        ({"mini_batch": 1.5}, "mini_batch is 1.5: expected a whole number"),
        ({"gamma": 1.1}, "gamma is 1.1: expected 0 to 1"),
        ({"ttt_base_lr": -0.1}, "ttt_base_lr is -0.1: expected 0 or more"),
        ({"lambda_compute": float("nan")}, "lambda_compute is nan"),
        ({"fast_weight": "cubic"}, "unknown fast_weight 'cubic': expected linear or mlp"),
        ({"rate": "fast"}, "unknown rate 'fast': expected fixed or position"),
        ({"ttt_layer": "v2"}, "unknown ttt_layer 'v2': expected iterative or reference"),
        ({"policy_input": "future"}, "unknown policy_input 'future': expected hidden or position"),
        ({"ttt_layer": "reference"}, "one step, .*set use_learned_policy=False"),
    ],
)
def test_a_config_that_cannot_be_says_what_was_expected(changes, said):
    with pytest.raises(InputError, match=said):
        config_of(**changes)


@pytest.mark.parametrize(
    ("changes", "length", "steps", "said"),
    [
        ({"use_learned_policy": False}, 8, None, "num_steps is None .*give the steps"),
        ({}, 8, 9, "num_steps is 9: expected 0 to max_steps = 8"),
        ({}, 8, -1, "num_steps is -1: expected 0 to max_steps = 8"),
        ({}, 8, np.eye(2, 8, dtype=int) * 9, "num_steps is 9"),
        ({}, 8, np.ones((2, 7), int), r"num_steps has shape \(2, 7\): expected .*\(2, 8\)"),
        ({}, 17, 1, "a text of 17 tokens: this model reads at most max_length = 16"),
        ({"mini_batch": 4}, 6, 1, "6 tokens is no number of mini-batches of 4"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(changes, length, steps, said):
    with pytest.raises(InputError, match=said):
        model_of(**changes)(input_ids=text(2, length), num_steps=steps)
