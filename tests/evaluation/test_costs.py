"""Analytic FLOPs against the compiler's count of a small unrolled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ponderttt.errors import InputError
from ponderttt.evaluation.costs import (
    AdapterFlops,
    adapter_flops,
    adapter_step_flops,
    compute_flops,
    compute_model_flops,
    forward_flops,
    head_flops,
    layer_flops,
    ledgers,
    policy_flops,
    score_flops,
    ttt_linear_flops,
)
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import Unit, token_losses
from ponderttt.models.adapters.reconstruction import Reconstruction
from ponderttt.models.adapters.ttt_layer import TTTConfig, TTTLayer
from ponderttt.models.decoder.families import gpt2, llama
from ponderttt.models.decoder.lm import TransformerLM, _logits
from ponderttt.types import ActionSpace

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
UNIT = Unit(jnp.ones((U, 512)), jnp.asarray(0), jnp.zeros(U, int), jnp.ones(U, bool))


def counted(function, *arguments):
    """The compiler's FLOPs."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("family", CONFIGS)
def test_forward_flops(family):
    tokens = jnp.zeros((1, 128), int)
    compiled = _logits.lower(TransformerLM.random(CONFIGS[family]), tokens).compile()
    counted = compiled.cost_analysis()["flops"] / tokens.size
    assert forward_flops(CONFIGS[family], 128) == pytest.approx(counted, rel=0.02)


def test_a_longer_window_costs_its_attention():
    config = CONFIGS["llama"]
    more = forward_flops(config, 256) - forward_flops(config, 128)
    assert more == 4 * 128 * 512


@pytest.mark.parametrize("rank", [None, 128])
def test_next_token_flops(rank):
    adapter = NextToken(jnp.asarray(0.1), rank=rank)
    fast = adapter.init(LM)

    def score(lm, fast, unit):
        return token_losses(lm, adapter.hidden(lm, fast, unit), unit.tokens)

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
        return adapter.hidden(LM, fast, view), view  # k and v are for the steps that may follow

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


def test_ledgers_of_a_unit_are_what_the_compiler_counts():
    adapter = NextToken(jnp.asarray(0.1))
    fast, tokens = adapter.init(LM), jnp.zeros((1, U), int)
    window = U
    forward = counted(lambda lm, tokens: lm.hidden_states(tokens), LM, tokens)
    score = counted(
        lambda lm, fast: token_losses(lm, adapter.hidden(lm, fast, UNIT), UNIT.tokens), LM, fast
    )
    step = counted(lambda lm, fast: adapter.gradient(lm, fast, UNIT), LM, fast)
    steps = [0, 1, 4]
    result = ledgers(steps, config=LM.config, unit=U, window=window, decision=7.0)
    np.testing.assert_allclose(result.model, [forward + score + k * step for k in steps], rtol=0.02)
    np.testing.assert_array_equal(result.nominal, [1, 3, 12])
    base = U * forward_flops(LM.config, window) + 7.0
    np.testing.assert_allclose(result.model - result.adapter, [base] * 3)
    assert result.adapter[0] == U * (score_flops(LM.config) - head_flops(LM.config))


def test_ledgers_follow_the_action_space_the_adapter_and_the_mask():
    config = llama.tiny()
    space = ActionSpace(("K1", "K8"), (1, 8), (1.0, 8.0))
    result = ledgers(
        [[1, 8], [8, 8]], config=config, unit=2, actions=space, adapter=AdapterFlops(10, 100),
        mask=[[True, True], [True, False]],
    )  # fmt: skip
    assert result.nominal.tolist() == [[1.0, 8.0], [8.0, 0.0]]
    assert result.adapter.tolist() == [[220.0, 1620.0], [1620.0, 0.0]]
    assert result.model[1, 1] == 0.0 and result.model[0, 0] == 2 * forward_flops(config, 2) + 220
    longer = ledgers([1], config=config, unit=2, window=8, actions=space)
    assert longer.model[0] - longer.adapter[0] == 2 * forward_flops(config, 8)


def test_the_sums():
    config = llama.tiny()
    steps, mask = [[0, 1, 4], [2, 0, 0]], [[True, True, True], [True, False, False]]
    each = ledgers(steps, config=config, unit=8, decision=5.0, mask=mask)
    sums = compute_flops(steps, config=config, unit=8, decision=5.0, mask=mask)
    assert [sums[name] for name in each._fields] == pytest.approx([x.sum() for x in each])
    assert sums["per_token"] == pytest.approx(each.model.sum() / 32)


def test_a_models_flops_are_its_ledgers():
    config = llama.tiny()
    flops = compute_model_flops(config, 64, 4, unit=16, decision=5.0)
    whole = ledgers([4] * 4, config=config, unit=16, window=64, decision=5.0)
    assert flops["total"] == pytest.approx(whole.model.sum())
    assert flops["adapter"] == pytest.approx(whole.adapter.sum())
    assert flops["policy_network"] == 20.0
    parts = [flops[name] for name in ("blocks", "head", "adapter", "policy_network")]
    assert flops["total"] == sum(parts) and flops["per_token"] == flops["total"] / 64
    trained = compute_model_flops(config, 64, 4, include_backward=True, unit=16, decision=5.0)
    assert trained == {name: 3 * value for name, value in flops.items()}


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


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: ledgers([0, 3], config=c, unit=8), "no action takes 3 steps"),
        (lambda c: ledgers([0, 1], config=c, unit=8, mask=[True]), "mask has shape"),
        (lambda c: compute_flops([], config=c, unit=8), "no unit"),
        (lambda c: compute_model_flops(c, 10, unit=4), "does not divide"),
        (lambda c: compute_model_flops(c, 0), "does not divide"),
        (lambda c: compute_model_flops(c, 8, -1), "num_steps is -1"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(InputError, match=said):
        call(llama.tiny())
