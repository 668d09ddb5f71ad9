"""The published TTT layers: golden arrays, decoding, restart, causality, NaN."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ponderttt.errors import InputError
from ponderttt.models import ReferenceTTTConfig, ReferenceTTTLayer, TTTConfig, TTTLayer

GOLDEN = Path(__file__).parents[2] / "golden"
MODELS = ("linear", "mlp")


def load(model):
    """The layer with the golden parameters; its input and the transcription's output."""
    with np.load(GOLDEN / f"ttt_{model}.npz") as file:
        arrays = dict(file)
    heads, head_dim = arrays["gamma"].shape
    config = ReferenceTTTConfig(
        heads * head_dim, head_dim=head_dim, fast_weight=model, debug=True,
        mini_batch=len(arrays["learned_position"]), base_rate=float(arrays["base_rate"]),
    )  # fmt: skip
    layer = ReferenceTTTLayer(config)
    for name, value in arrays.items():
        if name.startswith("initial_"):
            layer.initial[name.removeprefix("initial_")][...] = jnp.asarray(value)
        elif name not in ("hidden", "out", "base_rate"):
            getattr(layer, name)[...] = jnp.asarray(value)
    return layer, jnp.asarray(arrays["hidden"]), arrays["out"]


@pytest.mark.parametrize("model", MODELS)
def test_it_is_the_published_layer(model):
    layer, hidden, expected = load(model)
    out, _ = layer(hidden)
    np.testing.assert_allclose(out, expected, atol=1e-5 * np.abs(expected).max())
    # The golden text is one that learning matters for: nothing learned, another answer.
    layer.rate_bias[...] = jnp.full_like(layer.rate_bias[...], -50.0)
    assert np.abs(layer(hidden)[0] - expected).max() > 0.01


@pytest.mark.parametrize("model", MODELS)
def test_decode_and_restart_are_prefill(model):
    layer, hidden, _ = load(model)
    graph, slow = nnx.split(layer)
    read = jax.jit(lambda x, state: nnx.merge(graph, slow)(x, state))
    whole, end = jax.jit(lambda x: nnx.merge(graph, slow)(x))(hidden)
    state, outs = layer.begin(2), []
    for t in range(hidden.shape[1]):
        out, state = read(hidden[:, t : t + 1], state)
        outs.append(out)
    np.testing.assert_allclose(jnp.concatenate(outs, axis=1), whole, atol=2e-6)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    for cut in (6, 8):  # within a mini-batch, and between two
        first, middle = layer(hidden[:, :cut])
        rest, _ = layer(hidden[:, cut:], middle)
        np.testing.assert_allclose(jnp.concatenate([first, rest], axis=1), whole, atol=2e-6)


@pytest.mark.parametrize("model", MODELS)
def test_it_is_causal_and_every_slow_parameter_learns(model):
    layer, hidden, _ = load(model)
    graph, slow = nnx.split(layer)
    read = jax.jit(lambda slow, x: nnx.merge(graph, slow)(x)[0])
    out = read(slow, hidden)
    for t in (0, 3, 4, 11, 20):
        moved = read(slow, hidden.at[:, t].add(0.5))
        assert np.asarray(moved[:, :t]).tobytes() == np.asarray(out[:, :t]).tobytes()
        assert not np.array_equal(moved[:, t], out[:, t])
    grads = jax.jit(jax.grad(lambda slow: jnp.sum(read(slow, hidden)[:, -1] ** 2)))(slow)
    for path, grad in jax.tree.leaves_with_path(grads):
        assert np.isfinite(grad).all() and np.abs(grad).max() > 0, path


def test_nan_stays_in_its_document_and_the_debug_check_names_it():
    layer, hidden, _ = load("linear")
    graph, slow = nnx.split(layer)
    read = jax.jit(lambda x: nnx.merge(graph, slow)(x)[0])
    clean, spoiled = read(hidden), read(hidden.at[1, 9, 2].set(jnp.nan))
    assert np.asarray(spoiled[0]).tobytes() == np.asarray(clean[0]).tobytes()
    assert np.isnan(spoiled[1]).any() and not np.isnan(spoiled[1, :8]).any()
    with pytest.raises(InputError, match="document 1 hold NaN"):
        layer(hidden.at[1, 9, 2].set(jnp.nan))
    ours = TTTLayer(TTTConfig(16, chunk_size=7, head_dim=8, debug=True))
    with pytest.raises(InputError, match="document 0 hold NaN"):
        ours(hidden.at[0, 0, 0].set(jnp.inf))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_dim": 5}, "head_dim 5: expected an even number that divides"),
        ({"fast_weight": "cubic"}, "unknown fast_weight 'cubic': expected linear or mlp"),
        ({"mini_batch": 0}, "mini_batch is 0"),
    ],
)
def test_shapes_that_cannot_be(change, message):
    with pytest.raises(InputError, match=message):
        ReferenceTTTConfig(**({"hidden_dim": 16, "head_dim": 8} | change))
