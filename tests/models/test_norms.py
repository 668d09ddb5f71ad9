import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.models import IterativeTransformerTTT
from ponderttt.models.adapters import ttt_layer
from ponderttt.models.iterative import model
from ponderttt.models.norms import rms_norm
from ponderttt.policies import token_level


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 5, 6), (2, 3, 5, 6)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_last_axis_has_mean_square_one_and_then_the_scale(shape, dtype):
    rng = np.random.default_rng(0)
    x, scale = 3 * rng.normal(size=shape), rng.uniform(0.5, 2, size=6)
    x = np.asarray(jnp.asarray(x, dtype), np.float64)
    normed = rms_norm(jnp.asarray(x, dtype), jnp.asarray(scale, jnp.float32))
    assert normed.dtype == jnp.float32
    expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * scale
    np.testing.assert_allclose(normed, expected, rtol=1e-5, atol=1e-6)


def test_the_transformer_the_layer_and_the_policies_share_one_norm_and_one_count():
    assert all(module.rms_norm is rms_norm for module in (ttt_layer, model, token_level))
    assert not hasattr(IterativeTransformerTTT, "num_params")
