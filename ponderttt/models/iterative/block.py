"""A block of the transformer: a mixer among tokens, and a network for each token alone."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ponderttt.models.attention import causal_attention
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.models.iterative.ttt_mixer import TTTMixer
from ponderttt.models.norms import rms_norm


class AttentionMixer(nnx.Module):
    """Causal attention among a document's tokens."""

    def __init__(self, config: IterativeTransformerConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.hidden_dim
        self.qkv = nnx.Param(_normal(rngs, (width, 3 * width)))
        self.out = nnx.Param(_normal(rngs, (width, width), layers=config.num_layers))

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        b, t, width = x.shape
        heads = (b, t, self.config.num_heads, self.config.head_dim)
        q, k, v = (part.reshape(heads) for part in jnp.split(x @ self.qkv[...], 3, axis=-1))
        return causal_attention(q[:, :, :, None], k, v).reshape(b, t, width) @ self.out[...]


class Block(nnx.Module):
    """`h + mixer(norm(h))`, then `h + mlp(norm(h))`."""

    def __init__(
        self, config: IterativeTransformerConfig, mixer: AttentionMixer | TTTMixer, *,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        self.mixer = mixer
        width, inner = config.hidden_dim, config.ffn_dim
        self.mixer_scale, self.mlp_scale = (nnx.Param(jnp.ones(width)) for _ in range(2))
        self.mlp_in = nnx.Param(_normal(rngs, (width, inner)))
        self.mlp_out = nnx.Param(_normal(rngs, (inner, width), layers=config.num_layers))

    def mlp(self, h: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """The stream with what the position-wise network adds."""
        inner = jax.nn.relu(rms_norm(h, self.mlp_scale[...]) @ self.mlp_in[...])
        return h + inner**2 @ self.mlp_out[...]  # squared: Primer, 2109.08668; cheap on a CPU


def _normal(rngs: nnx.Rngs, shape: tuple[int, int], layers: int = 0) -> jax.Array:
    """N(0, 1/in), over `sqrt(2 layers)` where it ends in the residual stream."""
    return jax.random.normal(rngs.params(), shape) / jnp.sqrt(shape[0] * (2 * layers or 1))
