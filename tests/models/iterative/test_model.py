"""The transformer with TTT layers: causal, per token, carried, differentiable, fairly counted."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ponderttt.errors import InputError
from ponderttt.inner import learn
from ponderttt.models import IterativeTransformerConfig, IterativeTransformerTTT
from ponderttt.models.iterative.model import (
    IGNORED,
    count_parameters,
    drawn_halting,
    given,
    halting,
    mixed_halting,
)  # fmt: skip
from ponderttt.models.iterative.ttt_mixer import Allocation, TTTMixer

T, V = 8, 32
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""To the compiler, where its thoroughness is not what is tested."""
VARIANTS = {
    f"{model}-{'norm' if norm else 'plain'}-{rate}-{size}": {
        "fast_weight": model, "norm": norm, "rate": rate, "mini_batch": size
    }
    for model, norm, rate, size in [
        *itertools.product(("linear", "mlp"), (False, True), ["position"], (1, 4)),
        ("linear", False, "fixed", 1), ("mlp", False, "fixed", 1), ("mlp", True, "fixed", 4),
    ]
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
    for i in model.config.ttt_layer_indices:
        block = model.blocks[i]
        block.mixer.policy.logit_kernel[...] *= 300
    return model


def text(b=2, t=T, seed=0):
    return jax.random.randint(jax.random.key(seed), (b, t), 0, V)


def some_steps(b=2, n=T, seed=3):
    return jax.random.randint(jax.random.key(seed), (b, n), 0, 9)


def reader(model, allocate, options=None):
    """A compiled `(ids, steps) -> (logits, steps of the TTT layers)`; `allocate` may use steps."""
    graph, state = nnx.split(model)

    @partial(jax.jit, compiler_options=options)
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


def changes_nothing_before(model, allocate, options=None):
    ids, size = text(6), model.config.mini_batch
    read = reader(model, allocate, options)
    steps = some_steps(6, T // size)
    logits, told = read(ids, steps)
    assert len(np.unique(told)) > 1  # else decisions could not tell
    for t in range(T):
        # Every second document changes, one of each way to decide; the others do not.
        changed, decided = read(ids.at[::2, t].set((ids[::2, t] + 1) % V), steps)
        assert same_bits(changed[::2, :t], logits[::2, :t])
        assert not np.any(np.all(changed[::2, t] == logits[::2, t], axis=-1))
        assert same_bits(decided[:, ::2, : t // size], told[:, ::2, : t // size])
        assert same_bits(changed[1::2], logits[1::2])
        assert same_bits(decided[:, 1::2], told[:, 1::2])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_token_changes_nothing_before_it_nor_in_another_document(variant):
    options = QUICKLY if "position" in variant else None
    changes_nothing_before(model_of(**VARIANTS[variant]), by_row, options)


@pytest.mark.parametrize("variant", REFERENCE)
def test_the_reference_layer_is_causal(variant):
    changes_nothing_before(model_of(**REFERENCE[variant]), given, QUICKLY)


def test_the_mixed_allocation_is_causal():
    model = model_of(fast_weight="linear", rate="position")
    changes_nothing_before(model, lambda steps: mixed_halting)


def test_decisions_of_two_layers_are_causal():
    changes_nothing_before(model_of(num_layers=3, ttt_layer_indices=(1, 2)), by_row, QUICKLY)


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


def alone(call, mixer, x, allocation):
    """Fast weights that forget: every token is a document of its own."""
    b, t, width = x.shape
    told = Allocation(allocation.steps.reshape(b * t, 1))
    return call(mixer, x.reshape(b * t, 1, width), told).reshape(b, t, width)


@pytest.mark.parametrize("fast_weight", ["linear", "mlp"])
def test_the_fast_weights_are_carried(fast_weight, monkeypatch):
    model, ids = model_of(fast_weight=fast_weight), text()
    steps = jnp.full((2, T), 4)
    kept, _ = reader(model, given)(ids, steps)
    call = TTTMixer.__call__
    monkeypatch.setattr(TTTMixer, "__call__", lambda *told: alone(call, *told))
    lost, _ = reader(model, given)(ids, steps)
    each = [
        optax.softmax_cross_entropy_with_integer_labels(x[:, :-1], ids[:, 1:]).mean()
        for x in (kept, lost)
    ]
    assert abs(float(each[0] - each[1])) > 1e-4
    np.testing.assert_allclose(kept[:, 0], lost[:, 0], atol=1e-5)  # nothing yet to forget


def trainer_of(model, allocate):
    """Parameters, and a compiled `(parameters, moments, steps) -> (loss, gradient, both anew)`."""
    graph, state = nnx.split(model, nnx.Param)
    optimizer, ids = optax.adamw(3e-3), text(6)
    labels = jnp.roll(ids, -1, axis=1).at[:, -1].set(IGNORED)

    @partial(jax.jit, compiler_options=QUICKLY)
    def train(state, moments, steps):
        def mean(state):
            model = nnx.merge(graph, state)
            hidden = model.read(ids, allocate(steps), jax.random.key(2)).hidden
            return model.loss(hidden, labels)[0]

        loss, grads = jax.value_and_grad(mean)(state)
        updates, moments = optimizer.update(grads, moments, state)
        return loss, grads, optax.apply_updates(state, updates), moments

    return state, optimizer.init(state), train


def given_or_drawn(steps):
    """The given steps; where they are negative, those that the halting network draws."""

    def allocate(context, key):
        return Allocation(jnp.where(steps < 0, drawn_halting(context, key).steps, steps))

    return allocate


def named(grads):
    leaves = jax.tree_util.tree_leaves_with_path(grads)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@pytest.mark.parametrize(
    "changes",
    [
        {"fast_weight": "linear", "learned_rate": True, "rate": "position"},
        {"fast_weight": "mlp", "norm": True},
        {"fast_weight": "mlp", "learned_rate": True, "mini_batch": 4},
        REFERENCE["reference-mlp"],
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_all_but_the_halting_networks_get_a_gradient_and_it_lowers_the_loss(changes):
    model = model_of(**{"num_layers": 1, "ttt_layer_indices": (0,)} | changes)
    config, units = model.config, jnp.ones((6, T // model.config.mini_batch), int)
    allocate = given if config.ttt_layer == "reference" else given_or_drawn
    state, moments, train = trainer_of(model, allocate)
    for steps in (2, -1) if config.ttt_layer == "iterative" else (1,):
        _, grads, *_ = train(state, moments, steps * units)
        for name, grad in named(grads).items():
            assert np.isfinite(grad).all(), name
            frozen = "policy" in name or ("log_rate" in name and not config.learned_rate)
            assert bool(np.any(grad)) != frozen, name
    if config.ttt_layer == "iterative":
        # Keys and values are of the inner loop alone: without steps nothing reaches them.
        at = [path for path in named(grads) if "qkv" in path][config.ttt_layer_indices[0]]
        kept, without = (named(each)[at] for each in (grads, train(state, moments, 0 * units)[1]))
        assert np.any(kept[:, 16:32]) and np.any(kept[:, 32:])
        assert np.any(without[:, :16]) and not np.any(without[:, 16:])
    values = []
    for _ in range(6):
        value, _, state, moments = train(state, moments, units)
        values.append(float(value))
    assert np.all(np.diff(values) < 0) and values[-1] < values[0] - 0.05


def test_the_exact_expectation_trains_the_halting_network_by_the_loss():
    model = model_of(fast_weight="linear", num_layers=1, ttt_layer_indices=(0,))
    state, moments, train = trainer_of(model, lambda steps: mixed_halting)
    for name, grad in named(train(state, moments, 0)[1]).items():
        assert bool(np.any(grad)) == ("log_rate" not in name), name


def test_every_method_has_the_same_number_of_parameters():
    uniform = [
        {"max_steps": 11, "step_options": (k, k + 1, k + 2, k + 3), "target_avg_steps": None}
        for k in range(1, 9)
    ]
    others = [
        {"use_learned_policy": False}, {"policy_input": "position"}, {"lambda_compute": 0.05},
        {"target_avg_steps": None}, {"learned_rate": True}, {"mini_batch": 4},
    ]  # fmt: skip
    counts = {count_parameters(config_of(**each)) for each in [{}, *uniform, *others]}
    assert len(counts) == 1
    assert count_parameters(config_of(step_options=(1, 4))) not in counts  # a smaller network


def test_the_seeds_parameters_by_hand():
    width, hidden, ffn, vocabulary = 512, 64, 2048, 50257
    attention = 4 * width**2
    policy = width * 16 + 16 + 16 * 4 + 4
    fast = 8 * (2 * 64 * hidden + hidden + 64)
    ttt = 4 * width**2 + policy + fast + 8
    blocks = 6 * (2 * width * ffn + 2 * width) + 3 * attention + 3 * ttt
    expected = (vocabulary + 256 + 1) * width + blocks
    config = IterativeTransformerConfig()
    assert count_parameters(config) == expected == 44_968_212


def test_the_mixed_allocation_is_the_mean_over_all_allocations():
    options, width = (1, 4), 16
    config = config_of(
        fast_weight="linear", step_options=options, target_avg_steps=None, ttt_base_lr=0.4
    )
    mixer = TTTMixer(config, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (1, 3, width))
    shares = jax.nn.softmax(2 * jax.random.normal(jax.random.key(2), (1, 3, 2)))
    graph, params = nnx.split(mixer)
    read = jax.jit(lambda steps: nnx.merge(graph, params)(x, Allocation(steps)))
    mean = jnp.zeros_like(x)
    for actions in itertools.product(range(2), repeat=3):
        weight = np.prod([float(shares[0, t, a]) for t, a in enumerate(actions)])
        mean += weight * read(jnp.asarray([[options[a] for a in actions]]))
    told = Allocation(shares @ jnp.asarray(options, jnp.float32), jnp.log(shares), mixed=True)
    mixed = jax.jit(
        lambda log_probs: nnx.merge(graph, params)(x, told._replace(log_probs=log_probs))
    )
    np.testing.assert_allclose(mixed(told.log_probs), mean, atol=1e-5)
    # It is no reading at the mean number of steps, nor at the likeliest.
    for steps in (jnp.round(told.steps).astype(int), jnp.asarray(options)[shares.argmax(-1)]):
        assert float(jnp.abs(read(steps) - mean).max()) > 1e-3


@pytest.mark.parametrize(
    "changes",
    [{"fast_weight": "mlp"}, {"fast_weight": "linear", "norm": True},
     {"fast_weight": "linear", "mini_batch": 4}],
)  # fmt: skip
def test_what_has_no_exact_expectation_says_so(changes):
    with pytest.raises(InputError, match="exact expectation.*draw the steps instead"):
        model = model_of(**changes)
        jax.eval_shape(lambda: model.read(text(), mixed_halting, jax.random.key(0)).hidden)


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


@pytest.mark.lists
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
    run = nnx.jit(lambda model, labels: model(input_ids=ids, labels=labels, num_steps=1))
    outputs = run(model, labels)
    log_probs = jax.nn.log_softmax(run(model, None).logits)
    scored = np.asarray(labels != IGNORED)
    each = -np.take_along_axis(np.asarray(log_probs), np.where(scored, labels, 0)[..., None], 2)
    np.testing.assert_allclose(outputs.nll, each[..., 0] * scored, atol=1e-5)
    assert outputs.loss.item() == pytest.approx(each[..., 0][scored].mean(), abs=1e-5)
    nothing = run(model, jnp.full_like(ids, IGNORED))
    assert nothing.loss.item() == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step_options": (2, 1)}, r"step_options \[2, 1\]: expected .* ascending"),
        ({"step_options": (1, 1)}, "step_options holds 1 twice: expected each once"),
        ({"step_options": (-1, 1)}, "whole numbers of 0 or more"),
        ({"step_options": ()}, "step_options is empty: expected a list of one or more"),
        ({"step_options": (1, 16)}, "up to 16: expected at most max_steps = 8"),
        ({"ttt_layer_indices": (2,)}, "ttt_layer_indices holds 2: the model has blocks 0 to 1"),
        ({"ttt_layer_indices": (-1,)}, "ttt_layer_indices holds -1"),
        ({"ttt_layer_indices": ()}, "ttt_layer_indices is empty"),
        ({"target_avg_steps": 9.0}, "target_avg_steps is 9: .* expected 1 to 8, or None"),
        ({"target_avg_steps": 0.5}, "target_avg_steps is 0.5"),
        ({"num_heads": 3}, "num_heads 3 does not divide hidden_dim 16"),
        ({"hidden_dim": 0}, "hidden_dim is 0: expected 1 or more"),
        ({"mini_batch": 1.5}, "mini_batch is 1.5: expected a whole number of 1 or more"),
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
        model = model_of(**changes)  # compiled or not, it is refused
        jax.eval_shape(lambda: model(input_ids=text(2, length), num_steps=steps))


@pytest.mark.parametrize("bad", [V, -1, 10_000, IGNORED])
def test_ids_outside_the_vocabulary_are_refused(bad):
    model = model_of()
    ids = jnp.zeros((1, 8), int).at[0, 3].set(bad)
    with pytest.raises(InputError, match=f"input_ids hold {bad}: the vocabulary is 0 to {V - 1}"):
        model(input_ids=ids, num_steps=1)
    if bad != IGNORED:
        with pytest.raises(InputError, match=f"labels hold {bad}: .*{IGNORED} for what is not"):
            model(input_ids=jnp.zeros((1, 8), int), labels=ids, num_steps=1)


@pytest.mark.parametrize("ids", [np.zeros((1, 8)), np.zeros(8, int), np.zeros((1, 8), bool)])
def test_ids_are_whole_numbers_of_documents(ids):
    with pytest.raises(InputError, match=r"expected ids, whole numbers \[B, T\]"):
        model_of()(input_ids=jnp.asarray(ids), num_steps=1)


@pytest.mark.parametrize("bad", [V, 10_000, -1, -V - 1])
def test_under_jit_an_unknown_id_gives_nan_and_no_number(bad):
    run = nnx.jit(lambda model, ids, labels: model(ids, labels, num_steps=1).loss)
    model, good = model_of(), jnp.zeros((1, 8), int)
    assert np.isfinite(run(model, good, good))
    assert np.isnan(run(model, good.at[0, 3].set(bad), good))
    assert np.isnan(run(model, good, good.at[0, 3].set(bad)))
