"""The norm that the transformer and the TTT layer share."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def rms_norm(x: Float[Array, "*lead D"], scale: Float[Array, "D"]) -> Float[Array, "*lead D"]:
    """Each token's state brought to mean square 1, then scaled; float32."""
    x = x.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
    return x * jnp.expand_dims(scale, range(x.ndim - 1))
