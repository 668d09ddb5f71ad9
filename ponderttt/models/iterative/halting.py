"""The halting network: how many steps each token gets, from what its TTT layer is given."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ponderttt.models.iterative.config import IterativeTransformerConfig


class HaltingPolicyNetwork(nnx.Module):
    """Logits of the step options for each token, from that token's hidden state alone: causal.

    One tanh layer: `tanh(x W + b) W' + b'`, far below the FLOPs of one inner step (`costs`). The
    logits start near zero, so every option is equally likely at first. `policy_input="position"`
    sees sines and cosines of the token's place in the text, and nothing of what is read.

    Args:
        config: the shape of the transformer that it decides for.
        rngs: for the random start; None is seed 0.

    Called on states [B, T, D] it gives logits [B, T, A], A being `len(config.step_options)`.

    >>> config = IterativeTransformerConfig(hidden_dim=32, num_heads=2)
    >>> HaltingPolicyNetwork(config)(jnp.ones((2, 5, 32))).shape
    (2, 5, 4)
    """

    def __init__(self, config: IterativeTransformerConfig, *, rngs: nnx.Rngs | None = None):
        self.config = config
        rngs = rngs or nnx.Rngs(0)
        width, hidden, options = (
            config.hidden_dim, config.policy_hidden_dim, len(config.step_options),
        )  # fmt: skip
        first = jax.random.normal(rngs.params(), (width, hidden)) / jnp.sqrt(width)
        last = 0.01 * jax.random.normal(rngs.params(), (hidden, options))
        self.kernel, self.bias = nnx.Param(first), nnx.Param(jnp.zeros(hidden))
        self.logit_kernel, self.logit_bias = nnx.Param(last), nnx.Param(jnp.zeros(options))

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T A"]:
        """Unnormalised log-probabilities; `x` is detached: the policy never bends the model."""
        x = jax.lax.stop_gradient(x)
        if self.config.policy_input == "position":
            x = jnp.broadcast_to(positions(x.shape[1], x.shape[2])[None], x.shape)
        hidden = jnp.tanh(x @ self.kernel[...] + self.bias[...][None, None])
        return hidden @ self.logit_kernel[...] + self.logit_bias[...][None, None]


def positions(length: int, width: int) -> Float[Array, "T D"]:
    """Sines and cosines of the places 0 to `length - 1`, at periods from 2 pi to 10,000 times it.

    >>> positions(4, 6).shape
    (4, 6)
    """
    half = -(-width // 2)
    periods = 10_000 ** (jnp.arange(half) / half)
    angles = jnp.arange(length).astype(float)[:, None] / periods[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)[:, :width]
