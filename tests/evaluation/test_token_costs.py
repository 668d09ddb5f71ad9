"""Analytic FLOPs of the transformer with TTT layers against the compiler's count, unrolled."""

import dataclasses
import doctest
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ponderttt.errors import InputError
from ponderttt.evaluation import compute_model_flops, token_costs
from ponderttt.evaluation.token_costs import (
    block_flops,
    halting_flops,
    lstm_policy_flops,
    model_flops,
    policy_step_ratio,
    readout_flops,
    token_ledgers,
    ttt_layer_flops,
)
from ponderttt.inner import FAST_WEIGHTS, Norm, learn
from ponderttt.models.iterative.block import Block
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.models.iterative.halting import HaltingPolicyNetwork
from ponderttt.models.iterative.model import IterativeTransformerTTT
from ponderttt.models.iterative.reference_ttt import ReferenceTTTConfig, ReferenceTTTLayer
from ponderttt.models.iterative.ttt_mixer import Allocation

SEEDS = IterativeTransformerConfig()
SCAN = jax.lax.scan


@pytest.fixture(autouse=True)
def unrolled(monkeypatch):
    """The compiler counts the body of a loop once: let there be no loop."""
    monkeypatch.setattr(jax.lax, "scan", lambda *x, **kw: SCAN(*x, **{**kw, "unroll": True}))


def counted(function, *arguments):
    """The compiler's FLOPs; shapes are enough, nothing is allocated."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def split(make):
    return nnx.split(nnx.eval_shape(make))


def config_of(**changes):
    sizes = dict(
        vocab_size=2048, hidden_dim=512, num_layers=2, num_heads=2, ffn_dim=1024, max_length=128,
        ttt_layer_indices=(1,), fast_weight_hidden_dim=256, target_avg_steps=None,
    )  # fmt: skip
    return IterativeTransformerConfig(**(sizes | changes))


def inner_flops(config, length, steps, method="auto"):
    """A token's, of `learn` as the layer calls it; the last unit's steps are wanted too."""
    d, unit = config.head_dim, config.mini_batch
    model = FAST_WEIGHTS[config.fast_weight]
    fast = jax.eval_shape(lambda: model.init(jax.random.key(0), d, config.fast_weight_hidden_dim))

    def read(fast, q, k, v, rate, norm):
        return learn(
            fast, q, k, v, rate=rate, steps=steps, unit=unit, model=config.fast_weight, norm=norm,
            order="adapt_first" if unit == 1 else "predict_first", method=method,
        )  # fmt: skip

    norm = Norm(shape(d), shape(d)) if config.norm else None
    views = [shape(length, d)] * 3
    return counted(read, fast, *views, shape(length), norm) / length


# Units of many tokens and wide heads: beside the products, the rest is then within the 2 %.
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    ("model", "norm"), [("linear", False), ("linear", True), ("mlp", False), ("mlp", True)]
)
def test_inner_steps(model, norm, steps):
    config = config_of(
        hidden_dim=768, num_heads=1, fast_weight=model, norm=norm, mini_batch=128,
        fast_weight_hidden_dim=768,
    )  # fmt: skip
    layer = ttt_layer_flops(config)
    flops = inner_flops(config, 128, steps)
    assert layer.read_out + steps * layer.step == pytest.approx(flops, rel=0.02)


def test_a_step_on_one_token_is_mostly_its_products():
    # The update's multiply and subtract touch as many numbers as the products make.
    config = config_of(num_heads=8, fast_weight="mlp", fast_weight_hidden_dim=64)
    layer = ttt_layer_flops(config)
    flops = 8 * inner_flops(config, 4, 2, "primal")
    assert 1.2 < flops / (layer.read_out + 2 * layer.step) < 1.4


@pytest.mark.parametrize("steps", [1, 4])
def test_the_factored_form_writes_the_weights_once_a_token(steps):
    width = 512  # the factors' own products are K (d + m), beside d m
    config = config_of(num_heads=1, fast_weight="mlp", fast_weight_hidden_dim=width)
    least = (8 + 6 * steps) * width**2
    assert least < inner_flops(config, 4, steps) < 1.2 * least


@pytest.mark.parametrize("steps", [1, 8])
def test_the_closed_form_costs_the_same_for_any_steps(steps):
    config = config_of(num_heads=1, fast_weight="linear")
    layer = ttt_layer_flops(config, "closed")
    assert layer.step == 0
    assert layer.read_out == pytest.approx(inner_flops(config, 128, steps), rel=0.02)


@pytest.mark.parametrize("model", FAST_WEIGHTS)
def test_the_reference_layer(model):
    sizes = {"hidden_dim": 1024, "fast_weight": model}
    config = config_of(
        num_heads=1, ttt_layer="reference", use_learned_policy=False, **sizes
    )  # fmt: skip
    shape_of = ReferenceTTTConfig(head_dim=1024, **sizes)
    graph, state = split(lambda: ReferenceTTTLayer(shape_of, rngs=nnx.Rngs(0)))
    flops = counted(lambda state, x: nnx.merge(graph, state)(x), state, shape(1, 32, 1024))
    layer = ttt_layer_flops(config)
    assert layer.step == 0
    assert 32 * (layer.projections + layer.read_out) == pytest.approx(flops, rel=0.02)


@pytest.mark.parametrize("kind", ["attention", "mlp", "projections", "head"])
def test_the_other_parts(kind):
    config = config_of(fast_weight="linear")
    graph, state = split(lambda: IterativeTransformerTTT(config))

    def run(state, x):
        model = nnx.merge(graph, state)
        attention, ttt = model.blocks
        if kind == "attention":
            return attention.mixer(x)
        if kind == "mlp":
            return Block.mlp(attention, x)
        if kind == "head":
            return model.logits(x)
        return jnp.concatenate(ttt.mixer.views(x), axis=-1), x @ ttt.mixer.out[...]

    flops = counted(run, state, shape(1, 128, 512))
    attention, mlp = block_flops(config, 128)
    expected = {
        "attention": attention, "mlp": mlp / 2, "head": readout_flops(config),
        "projections": ttt_layer_flops(config).projections,
    }[kind]  # fmt: skip
    assert 128 * expected == pytest.approx(flops, rel=0.02)


def test_beyond_a_block_of_queries_attention_computes_less_than_is_counted():
    config = config_of(max_length=256)
    graph, state = split(lambda: IterativeTransformerTTT(config))
    flops = counted(
        lambda state, x: nnx.merge(graph, state).blocks[0].mixer(x), state, shape(1, 256, 512)
    )
    dense = 4 * 256 * 512
    expected = block_flops(config, 256)[0] - dense + (256 + 128) / (2 * 256) * dense
    assert 256 * expected == pytest.approx(flops, rel=0.02)


def test_a_whole_model_forward_and_back():
    config = config_of(fast_weight="linear", policy_hidden_dim=64)
    graph, state = split(lambda: IterativeTransformerTTT(config))
    ids = jax.ShapeDtypeStruct((1, 64), jnp.int32)

    def read(state, ids):
        model = nnx.merge(graph, state)

        def allocate(context, key):
            options = jnp.asarray(config.step_options)
            return Allocation(options[jnp.argmax(context.layer.decide(context.x), axis=-1)])

        return model, model.read(ids, allocate, jax.random.key(0)).hidden

    def logits(state, ids):
        model, hidden = read(state, ids)
        return model.logits(hidden)

    def loss(state, ids):
        model, hidden = read(state, ids)
        return model.loss(hidden, ids)[0]

    for function, backward in ((logits, False), (jax.grad(loss), True)):
        flops = model_flops(config, 64, 8, backward, form="closed")
        assert flops["total"] == pytest.approx(counted(function, state, ids), rel=0.02)


def test_a_decision():
    config = config_of(policy_hidden_dim=128)
    graph, state = split(lambda: HaltingPolicyNetwork(config))
    flops = counted(lambda s, x: nnx.merge(graph, s)(x), state, shape(1, 64, 512))
    assert 64 * halting_flops(config) == pytest.approx(flops, rel=0.02)


def test_the_seeds_bidirectional_lstm():
    width, b, t = 512, 64, 2
    config = config_of(hidden_dim=width)

    def direction(x, w):
        h = c = jnp.zeros((b, width))
        out = []
        for token in x:
            i, f, g, o = jnp.split(jnp.concatenate([token, h], axis=-1) @ w, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            out.append(h)
        return jnp.stack(out)

    def decide(x, there, back, first, last):
        both = [direction(x, there), direction(x[::-1], back)[::-1]]
        return jax.nn.gelu(jnp.concatenate(both, axis=-1) @ first) @ last

    gates = shape(2 * width, 4 * width)
    shapes = gates, gates, shape(2 * width, width), shape(width, 4)
    flops = counted(decide, shape(t, b, width), *shapes)
    assert t * b * lstm_policy_flops(config) == pytest.approx(flops, rel=0.02)
    # Our reading of the seeds' network has the 14.2 M parameters that they report for three layers.
    gate_biases = 2 * 2 * 4 * 512  # two biases a gate, two directions
    rest = gate_biases + 512 + 4
    params = sum(int(np.prod(each.shape)) for each in shapes) + rest
    assert round(3 * params / 1e6, 1) == 14.2
    assert policy_step_ratio(SEEDS, lstm=True) > 20


@pytest.mark.parametrize("fast_weight", FAST_WEIGHTS)
@pytest.mark.parametrize(("width", "heads"), [(512, 8), (128, 4)])
def test_a_decision_costs_less_than_one_inner_step(width, heads, fast_weight):
    config = config_of(
        hidden_dim=width, num_heads=heads, fast_weight=fast_weight, fast_weight_hidden_dim=64
    )
    assert 0 < policy_step_ratio(config) < 0.3 < 1 < policy_step_ratio(config, lstm=True)
    assert policy_step_ratio(config) * ttt_layer_flops(config).step == halting_flops(config)


def test_the_seeds_call():
    flops = compute_model_flops(SEEDS, seq_len=256, num_steps=4, include_backward=True)
    parts = (
        "attention", "mlp", "projections", "read_out", "inner_steps", "head", "policy_network",
    )  # fmt: skip
    assert flops["total"] == pytest.approx(sum(flops[name] for name in parts))
    assert flops["per_token"] == flops["total"] / 256
    assert flops["policy_network"] == 3 * 256 * 3 * halting_flops(SEEDS)
    assert flops["inner_steps"] == 3 * 256 * 3 * 4 * 8 * 10 * 64 * 64
    forward = compute_model_flops(SEEDS, seq_len=256, num_steps=4)
    assert flops == {name: pytest.approx(3 * value) for name, value in forward.items()}


def test_the_examples_hold():
    assert doctest.testmod(token_costs).failed == 0


def test_more_steps_more_tokens_and_a_policy_cost_more():
    total = lambda config, length, k: compute_model_flops(config, length, k)["total"]  # noqa: E731
    assert np.all(np.diff([total(SEEDS, 256, k) for k in (0, 1, 2.5, 4, 8)]) > 0)
    assert np.all(np.diff([total(SEEDS, t, 4) / t for t in (1, 128, 256)]) > 0)
    fixed = dataclasses.replace(SEEDS, use_learned_policy=False)
    assert compute_model_flops(fixed, 256, 4)["policy_network"] == 0
    assert total(SEEDS, 256, 4) - total(fixed, 256, 4) == 256 * 3 * halting_flops(SEEDS)
    # Where the closed form holds, it is cheaper from two steps on.
    linear = dataclasses.replace(SEEDS, fast_weight="linear")
    closed = model_flops(linear, 256, 8, form="closed")
    assert closed["total"] == model_flops(linear, 256, 1, form="closed")["total"]
    assert total(linear, 256, 1) < closed["total"] < total(linear, 256, 2)


def test_ledgers_are_the_models_flops_a_token():
    steps = np.array([[0.0, 1.0], [3.5, 8.0]])
    ledgers = token_ledgers(SEEDS, steps, seq_len=128)
    for k, nominal, adapter, model in zip(steps.flat, *(x.flat for x in ledgers), strict=True):
        flops = compute_model_flops(SEEDS, 128, float(k))
        assert nominal == k and model == pytest.approx(flops["per_token"])
        added = sum(flops[name] for name in ("projections", "read_out", "inner_steps"))
        assert adapter == pytest.approx(added / 128)
    fixed = token_ledgers(SEEDS, steps, seq_len=128, decision=0.0)
    read = token_ledgers(SEEDS, steps, seq_len=128, decision=readout_flops(SEEDS))
    np.testing.assert_allclose(ledgers.model - fixed.model, 3 * halting_flops(SEEDS))
    np.testing.assert_allclose(read.model - fixed.model, 2 * 512 * 50257)
    np.testing.assert_array_equal(read.adapter, ledgers.adapter)
    whole = token_ledgers(SEEDS, 4.0).model
    assert whole == pytest.approx(compute_model_flops(SEEDS, 256, 4)["per_token"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (partial(compute_model_flops, SEEDS, 0), "seq_len is 0: expected 1 to max_length = 256"),
        (partial(compute_model_flops, SEEDS, 257), "seq_len is 257: expected 1 to"),
        (partial(compute_model_flops, SEEDS, 8, -0.5), "num_steps is -0.5: expected 0 to max_ste"),
        (partial(compute_model_flops, SEEDS, 8, 9), "num_steps is 9: expected 0 to max_steps = 8"),
        (partial(compute_model_flops, SEEDS, 8, float("nan")), "num_steps is nan: expected 0"),
        (partial(compute_model_flops, SEEDS, 8, unit=4), "unit, adapter and decision belong to"),
        (partial(compute_model_flops, SEEDS, 8, decision=1.0), "unit, adapter and decision"),
        (partial(token_ledgers, SEEDS, [1, -1]), "num_steps is -1"),
        (partial(token_ledgers, config_of(mini_batch=4), 1, seq_len=6), "6 tokens is no number of"),
        (partial(ttt_layer_flops, SEEDS, "closed"), "closed form is known for linear"),
        (partial(ttt_layer_flops, config_of(norm=True, fast_weight="linear"), "closed"), "norm"),
        (partial(ttt_layer_flops, SEEDS, "folded"), "unknown form 'folded': expected stepped or"),
        (
            partial(policy_step_ratio, config_of(ttt_layer="reference", use_learned_policy=False)),
            "no step to compare with",
        ),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(InputError, match=said):
        call()
