"""Analytic FLOPs against the compiler's count of a small unrolled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.products import multiplied

from ponderttt.environment.reading import score, score_with_slope
from ponderttt.evaluation.flops import (
    adapter_flops,
    adapter_step_flops,
    again_flops,
    attention_flops,
    block_flops,
    forward_flops,
    keys_met,
    layer_flops,
    orthogonalize_flops,
    policy_flops,
    score_flops,
    suffix_flops,
    ttt_linear_flops,
)
from ponderttt.inner.update_rules import SGD
from ponderttt.inner.update_rules.newton_schulz import orthogonalize
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import Unit, token_losses
from ponderttt.models.adapters.reconstruction import Reconstruction
from ponderttt.models.adapters.ttt_layer import TTTConfig, TTTLayer
from ponderttt.models.attention import rotary_angles
from ponderttt.models.decoder.decoder import Context
from ponderttt.models.decoder.families import gpt2, llama
from ponderttt.models.decoder.lm import TransformerLM, _logits
from ponderttt.models.decoder.window import Window
from ponderttt.models.windowed_attention import BLOCK, _over_past, no_past, windowed_attention
from ponderttt.types import Documents

# One block, since the compiler counts the body of a loop once; one query block, so that no key is
# left out of the attention products.
CONFIGS = {
    "llama": llama.config(
        vocab_size=4096, width=512, layers=1, heads=8, kv_heads=4, hidden=2048, max_positions=128
    ),
    "gpt2": gpt2.config(vocab_size=4096, width=512, layers=1, heads=8, max_positions=128),
}


U = 64
# A vocabulary of one block: the head's pass over it is then no loop.
LM = TransformerLM.random(CONFIGS["llama"].replace(vocab_size=2000))
UNIT = Unit(jnp.ones((U, 512)), jnp.zeros(U, int), jnp.ones(U, bool))


def counted(function, *arguments):
    """The compiler's FLOPs."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("family", CONFIGS)
def test_forward_flops(family):
    tokens = jnp.zeros((1, 128), int)
    compiled = _logits.lower(TransformerLM.random(CONFIGS[family]), tokens).compile()
    counted = compiled.cost_analysis()["flops"] / tokens.size
    assert forward_flops(CONFIGS[family], 128) == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize(("activation", "products"), [("swiglu", 3), ("gelu", 2)])
def test_products_of_the_mlp_follow_the_activation_whatever_the_family(activation, products):
    config = CONFIGS["gpt2"].replace(activation=activation)
    compiled = _logits.lower(TransformerLM.random(config), jnp.zeros((1, 128), int)).compile()
    counted = compiled.cost_analysis()["flops"] / 128
    assert forward_flops(config, 128) == pytest.approx(counted, rel=0.02)
    none = config.replace(hidden=1)
    mlp = forward_flops(config, 128) - forward_flops(none, 128)
    assert mlp == 2 * products * 512 * (config.hidden - 1)


def test_a_longer_window_costs_its_attention():
    config = CONFIGS["llama"]
    more = forward_flops(config, 256) - forward_flops(config, 128)
    assert more == 4 * 128 * 512


@pytest.mark.parametrize("rank", [None, 128])
def test_next_token_flops(rank):
    adapter = NextToken(SGD(jnp.asarray(0.1)), rank=rank)
    fast = adapter.init(LM)

    def score(lm, fast, unit):
        return token_losses(lm, adapter.read(lm, fast, unit, learns=False).hidden, unit.tokens)

    def descend(lm, fast, unit, steps):
        for _ in range(steps):
            fast = jax.tree.map(jnp.subtract, fast, adapter.gradient(lm, fast, unit))
        return fast

    assert U * score_flops(LM.config, rank=rank) == pytest.approx(
        counted(score, LM, fast, UNIT), rel=0.02
    )
    for steps in (1, 2):
        flops = counted(lambda *x, steps=steps: descend(*x, steps), LM, fast, UNIT)
        step = U * adapter_step_flops(LM.config, rank=rank)
        assert steps * step == pytest.approx(flops, rel=0.02)


# Wide heads: beside the products the norms are then within the 2 %.
LAYERS = {
    "linear": TTTConfig(1536, head_dim=768),
    "mlp": TTTConfig(512, head_dim=256, fast_weight="mlp", fast_weight_hidden_dim=512),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_reconstruction_flops(kind):
    config = LAYERS[kind]
    adapter = Reconstruction.of(nnx.eval_shape(lambda: TTTLayer(config)))  # shapes are enough
    unit = UNIT._replace(hidden=jnp.ones((U, config.hidden_dim)))
    fast, view = jax.eval_shape(lambda a: (a.init(LM), a.view(LM, unit)), adapter)

    def read(adapter, fast, unit):
        view = adapter.view(LM, unit)
        return adapter.read(
            LM, fast, view, learns=False
        ).hidden, view  # k and v are for the steps that may follow

    analytic = layer_flops(config)
    assert U * analytic.read == pytest.approx(counted(read, adapter, fast, unit), rel=0.02)
    step = counted(lambda *x: x[0].gradient(LM, *x[1:]), adapter, fast, view)
    assert U * analytic.step == pytest.approx(step, rel=0.02)


def test_ttt_linear_flops_of_heads_make_the_layers():
    config = TTTConfig(256, head_dim=64)
    analytic = layer_flops(config)
    for steps in (0, 1, 4):
        inner = config.heads * ttt_linear_flops(64, steps)
        assert analytic.read + steps * analytic.step == inner + 8 * 256**2
    assert ttt_linear_flops(64, 4) == 4 * 4 * 64**2 + 2 * 64**2


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_policy_flops(layers):
    sizes = [200, *[256] * layers, 100]
    weights = [jnp.ones(pair) for pair in zip(sizes[:-1], sizes[1:], strict=True)]

    def act(weights, x):
        for i, w in enumerate(weights):
            x = x @ w if i + 1 == len(weights) else jax.nn.relu(x @ w)
        return x

    flops = counted(act, weights, jnp.ones((16, 200)))
    assert 16 * policy_flops(200, 256, layers, 100) == pytest.approx(flops, rel=0.02)


def test_a_backward_pass_is_two_forward_ones():
    # Dense products only: in a chain of them the first needs no gradient of its input.
    w = [jnp.ones((256, 256)) for _ in range(6)]

    def loss(w, x):
        for each in w:
            x = jnp.tanh(x @ each)
        return x.sum()

    x = jnp.ones((64, 256))
    forward, both = counted(loss, w, x), counted(jax.grad(loss, argnums=(0, 1)), w, x)
    assert both == pytest.approx(3 * forward, rel=0.02)


def test_step_flops_of_a_known_model():
    # SmolLM2: twice the head, 4 D V = 113 million, and 1.3 million of the map; a step is about
    # a third of a forward pass, which the nominal cost of a step (2) does not say.
    config = llama.smollm2_135m()
    assert adapter_flops(config).step == 4 * 576 * 49152 + 4 * 576**2
    assert 0.3 < adapter_flops(config).step / forward_flops(config, 512) < 0.4


BLOCKS = 2
SUFFIX = TransformerLM.random(CONFIGS["llama"].replace(vocab_size=2000, layers=3))
"""A head of one block; blocks are scanned, and each is counted."""


def suffix_unit(window):
    """One unit behind all that its window holds."""
    context = Context(rotary_angles(SUFFIX.config, U), jnp.asarray(window.tokens), window.tokens)
    return UNIT._replace(context=context, past=SUFFIX.no_past(BLOCKS, window, U))


def read_alone(fast, unit, adapter):
    reading = adapter.read(SUFFIX, fast, unit, learns=False)
    return score(SUFFIX, reading, unit.tokens, unit.mask, False).nll


def read_and_learned(fast, unit, adapter):
    reading = adapter.read(SUFFIX, fast, unit, learns=True)
    known, reading = score_with_slope(SUFFIX, reading, unit.tokens, unit.mask)
    return known.nll, adapter.gradient(SUFFIX, fast, unit, reading)


def suffix_counts(window, targets=("mlp_out",), rank=None):
    """Of reading a unit, and of learning from it first and once more, a token."""
    adapter = NextToken(SGD(jnp.asarray(0.1)), suffix_blocks=BLOCKS, targets=targets, rank=rank)
    fast, unit = adapter.init(SUFFIX), suffix_unit(window)
    read = multiplied(lambda fast: read_alone(fast, unit, adapter), fast)
    learned = multiplied(lambda fast: read_and_learned(fast, unit, adapter), fast)
    again = multiplied(lambda fast: adapter.gradient(SUFFIX, fast, unit), fast)
    return read / U, (learned - read) / U, again / U


@pytest.mark.parametrize("family", CONFIGS)
def test_block_flops(family):
    config = CONFIGS[family].replace(layers=3)
    lm, h = TransformerLM.random(config), jnp.ones((1, 128, 512))
    counted = multiplied(lambda lm, h: lm.decoder.run_blocks(h, 0, 3), lm, h) / 128
    assert counted == 3 * block_flops(config, 128)


def test_attention_flops():
    config = CONFIGS["llama"]
    q, k = jnp.ones((1, U, 4, 2, 64)), jnp.ones((1, U, 4, 64))
    past = no_past((1,), 128, 4, 64, jnp.float32)
    seen = jnp.asarray(128)
    counted = multiplied(lambda *x: windowed_attention(*x, past, seen, 128), q, k, k) / U
    assert counted == attention_flops(config, 128 + U)  # the past's keys, and the unit's own


@pytest.mark.parametrize(
    ("targets", "rank"), [(("mlp_out",), None), (("q", "v", "mlp_in"), 16)], ids=["full", "low"]
)
def test_suffix_flops_of_a_unit_that_is_its_whole_window(targets, rank):
    analytic = suffix_flops(SUFFIX.config, U, BLOCKS, unit=U, targets=targets, rank=rank)
    again = again_flops(SUFFIX.config, U, BLOCKS)
    read, step, once_more = suffix_counts(Window.of_unit(U), targets, rank)
    assert read == again + analytic.read
    assert step == analytic.step
    assert once_more == step + read


def test_suffix_flops_of_a_unit_behind_a_past():
    # The past's keys are met beside the unit's own; the past itself is constant.
    window = 128
    read, step, once_more = suffix_counts(Window(window))
    analytic = suffix_flops(SUFFIX.config, window + U, BLOCKS, unit=U)
    assert read == again_flops(SUFFIX.config, window + U, BLOCKS) + analytic.read
    assert step == analytic.step
    assert once_more == step + read


@pytest.mark.parametrize("shape", [(48, 80), (80, 48)])
def test_orthogonalize_flops(shape):
    counted = multiplied(lambda g: orthogonalize(g, 5), jnp.ones(shape))
    assert counted == orthogonalize_flops(*shape, iterations=5)


@pytest.mark.parametrize("window", [64, 512, 1024, 4096])
def test_keys_are_counted_as_attention_meets_them(window):
    """Blocks that hold something, of a document of three files with padding at its end."""
    unit, units = 64, 40
    tokens = np.zeros((1, units, unit), np.int32)
    mask = np.ones(tokens.shape, bool)
    mask[0, 38:] = False
    starts = np.zeros((1, units), bool)
    starts[0, [0, 5, 20]] = True
    document = Documents(tokens, mask, np.asarray(0), starts)
    past = no_past((1, 1), window, 1, 1, jnp.float32)

    def blocks(seen):
        return int(_over_past(lambda j, count: count + 1, past, seen, window, 0))

    places = Window(window).places(document)[0, :38]
    seen = [jnp.asarray(min(int(place) * unit, window)) for place in places]
    met = [unit + min(BLOCK, window) * blocks(each) for each in seen]
    assert keys_met(document, Window(window)) == np.mean(met)
