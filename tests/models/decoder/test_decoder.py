from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.errors import InputError
from ponderttt.models.decoder.config import RotaryScaling
from ponderttt.models.decoder.families import gpt2, llama, neox
from ponderttt.models.decoder.lm import TransformerLM

GOLDEN = Path(__file__).parents[2] / "golden"
FAMILIES = ["tiny", "tiny-gpt2", "tiny-neox"]


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request):
    return TransformerLM.from_pretrained(request.param)


def random_tokens(lm, shape, seed=0):
    return np.random.default_rng(seed).integers(0, lm.config.vocab_size, shape).astype(np.int32)


def random_deltas(lm, blocks, scale=0.3):
    rng = np.random.default_rng(1)
    shapes = lm.projection_shapes()

    def draw(*shape):
        return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

    low_rank = {
        name: {"a": draw(blocks, shapes[name][0], 3), "b": draw(blocks, 3, shapes[name][1])}
        for name in ("q", "v")
    }
    return low_rank | {"mlp_out": {"w": draw(blocks, *shapes["mlp_out"])}}


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_logits_equal_those_of_transformers(name):
    golden = np.load(GOLDEN / f"{name}.npz")
    lm = TransformerLM.from_pretrained(GOLDEN / name)
    logits = np.asarray(lm.logits(golden["tokens"]))
    error = np.abs(logits - golden["logits"]).max() / np.abs(golden["logits"]).max()
    assert error < 1e-5


def test_bfloat16_stays_close_to_float32():
    golden = np.load(GOLDEN / "llama.npz")
    lm = TransformerLM.from_pretrained(GOLDEN / "llama", dtype="bfloat16")
    logits = np.asarray(lm.logits(golden["tokens"]))
    assert logits.dtype == np.float32
    assert lm.hidden_states(golden["tokens"]).dtype == jnp.float32
    assert np.abs(logits - golden["logits"]).mean() < 0.02 * golden["logits"].std()


@pytest.mark.parametrize("length", [40, 300])
def test_earlier_logits_are_bit_identical_when_a_token_changes(lm, length):
    tokens = random_tokens(lm, (2, length))
    before = np.asarray(lm.logits(tokens))
    for position in {0, 1, 17, length // 2, 127, 128, 129, 255, 256, length - 1}:
        if position >= length:
            continue
        changed = tokens.copy()
        changed[0, position] = (changed[0, position] + 1) % lm.config.vocab_size
        after = np.asarray(lm.logits(changed))
        np.testing.assert_array_equal(after[0, :position], before[0, :position])
        np.testing.assert_array_equal(after[1], before[1])
        assert (after[0, position] != before[0, position]).any()


def test_the_suffix_with_fast_weights_is_causal(lm):
    tokens = random_tokens(lm, (1, 200))
    deltas = random_deltas(lm, 1)

    def run(tokens):
        return np.asarray(lm.suffix_states(lm.prefix_states(tokens, 1), 1, deltas))

    before = run(tokens)
    for position in (0, 63, 127, 128, 199):
        changed = tokens.copy()
        changed[0, position] = (changed[0, position] + 1) % lm.config.vocab_size
        after = run(changed)
        np.testing.assert_array_equal(after[:, :position], before[:, :position])
        assert (after[:, position] != before[:, position]).any()


def test_padding_after_a_text_does_not_change_it(lm):
    tokens = random_tokens(lm, (1, 64))
    padded = np.concatenate([tokens, np.zeros((1, 64), np.int32)], axis=1)
    np.testing.assert_allclose(lm.logits(padded)[:, :64], lm.logits(tokens), atol=1e-5)


@pytest.mark.parametrize("suffix_blocks", [0, 1, 2])
def test_prefix_and_suffix_make_the_whole(lm, suffix_blocks):
    tokens = random_tokens(lm, (2, 50))
    whole = lm.hidden_states(tokens)
    parts = lm.suffix_states(lm.prefix_states(tokens, suffix_blocks), suffix_blocks)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    np.testing.assert_allclose(whole @ lm.head.T, lm.logits(tokens), atol=1e-4)


def test_zero_deltas_change_nothing_and_each_delta_something(lm):
    tokens = random_tokens(lm, (1, 50))
    h = lm.prefix_states(tokens, 2)
    plain = lm.suffix_states(h, 2)
    deltas = random_deltas(lm, 2)
    zeros = jax.tree.map(jnp.zeros_like, deltas)
    np.testing.assert_array_equal(lm.suffix_states(h, 2, zeros), plain)
    for name in deltas:
        changed = lm.suffix_states(h, 2, {name: deltas[name]})
        assert np.abs(changed - plain).max() > 1e-3, name


def test_low_rank_deltas_equal_their_product(lm):
    h = lm.prefix_states(random_tokens(lm, (1, 50)), 1)
    low = random_deltas(lm, 1)["q"]
    full = {"w": jnp.einsum("mir,mro->mio", low["a"], low["b"])}
    np.testing.assert_allclose(
        lm.suffix_states(h, 1, {"q": low}), lm.suffix_states(h, 1, {"q": full}), atol=1e-5
    )


def test_each_document_has_its_own_deltas_under_vmap(lm):
    h = lm.prefix_states(random_tokens(lm, (3, 40)), 1)
    deltas = random_deltas(lm, 1)
    scales = jnp.arange(3.0)
    scaled = jax.vmap(lambda s: jax.tree.map(lambda x: s * x, deltas))(scales)
    together = jax.vmap(lambda h, d: lm.suffix_states(h[None], 1, d)[0])(h, scaled)
    for i in range(3):
        alone = lm.suffix_states(h[i : i + 1], 1, jax.tree.map(lambda x, i=i: x[i], scaled))[0]
        np.testing.assert_allclose(together[i], alone, atol=1e-5)


def test_weights_are_arguments_of_jit_not_constants(lm):
    tokens = random_tokens(lm, (1, 8))
    lowered = jax.jit(lambda lm, tokens: lm.logits(tokens)).lower(lm, tokens)
    assert len(lowered.as_text()) < 100_000
    other = TransformerLM.random(lm.config, seed=7)
    assert other.fingerprint != lm.fingerprint
    assert TransformerLM.random(lm.config, seed=7).fingerprint == other.fingerprint


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda lm: lm.logits(np.zeros((1, 5000), np.int32)), "T at most 2048"),
        (lambda lm: lm.logits(np.zeros(5, np.int32)), r"\[B, T\]"),
        (lambda lm: lm.logits(np.full((1, 5), 257)), "vocabulary"),
        (lambda lm: lm.logits(np.full((1, 5), -1)), "vocabulary"),
        (lambda lm: lm.prefix_states(np.zeros((1, 5), np.int32), 3), "has 2 blocks"),
    ],
)
def test_what_cannot_be_read_is_said_before_anything_runs(lm, call, message):
    with pytest.raises(InputError, match=message):
        call(lm)


def test_parameter_counts_of_known_models():
    def count(config):
        lm = jax.eval_shape(lambda: TransformerLM.random(config))
        return sum(leaf.size for leaf in jax.tree.leaves(lm))

    assert count(llama.smollm2_135m()) == 134_515_008
    assert count(gpt2.gpt2()) == 124_439_808
    assert count(gpt2.gpt2_medium()) == 354_823_168
    assert count(gpt2.gpt2_large()) == 774_030_080
    assert count(gpt2.gpt2_xl()) == 1_557_611_200
    # Table 1 of Pythia (2304.01373) counts without embedding and head.
    body = {"70m": 18_915_328, "160m": 85_056_000, "410m": 302_311_424, "1b": 805_736_448,
            "1.4b": 1_208_602_624}  # fmt: skip
    for size, parameters in body.items():
        config = neox.PYTHIA[f"pythia-{size}"]
        assert count(config) == parameters + 2 * config.vocab_size * config.width


SCALING = RotaryScaling(8.0, 1.0, 4.0, original_positions=64)


def test_slow_pairs_turn_slower_and_fast_ones_as_before():
    turns = np.array([10.0, 4.0, 2.5, 1.0, 0.5])  # in 64 positions
    expected = np.array([10.0, 4.0, 1.25 + 1.25 / 8, 1 / 8, 0.5 / 8])
    scaled = SCALING.scale(2 * np.pi * turns / 64)
    np.testing.assert_allclose(scaled, 2 * np.pi * expected / 64, rtol=1e-12)


def test_scaled_positions_are_causal_and_another_model():
    plain = llama.tiny().replace(rope_base=50.0)
    scaled = TransformerLM.random(plain.replace(rope_scaling=SCALING))
    tokens = random_tokens(scaled, (1, 60))
    logits = np.asarray(scaled.logits(tokens))
    assert np.abs(logits - TransformerLM.random(plain).logits(tokens)).max() > 1e-3
    assert scaled.fingerprint != TransformerLM.random(plain).fingerprint
    changed = tokens.copy()
    changed[0, 40] = (changed[0, 40] + 1) % plain.vocab_size
    after = np.asarray(scaled.logits(changed))
    np.testing.assert_array_equal(after[:, :40], logits[:, :40])
    assert (after[:, 40] != logits[:, 40]).any()
