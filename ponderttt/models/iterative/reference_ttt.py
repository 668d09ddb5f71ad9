"""TTT-Linear and TTT-MLP layers as published (Sun et al., 2407.04620; code: ttt-lm-jax).

The sequence model of the paper's Transformer backbone: one gradient step a mini-batch of 16 tokens,
with a rate for each pair of answer and gradient. `TTTLayer` is this project's own layer, for whole
units and K steps on a frozen language model.
Axes: B documents, T tokens, D width, H heads, d head width, b tokens a mini-batch.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ponderttt.checks import Count, Positive, check
from ponderttt.errors import InputError
from ponderttt.inner import FAST_WEIGHTS, Norm
from ponderttt.inner.dual import dual
from ponderttt.inner.mini_batch import DecodeState, Rates, begin, primal
from ponderttt.inner.objectives import layer_norm
from ponderttt.models.adapters.ttt_layer import refuse_nan


@dataclass(frozen=True)
class ReferenceTTTConfig:
    """Shape of a `ReferenceTTTLayer`; `base_rate` is 1 for linear and 0.1 for mlp in the paper."""

    hidden_dim: Count
    head_dim: Count = 64
    fast_weight: Literal["linear", "mlp"] = "linear"
    mini_batch: Count = 16
    base_rate: Positive = 1.0
    rope_base: Positive = 10_000.0
    debug: bool = False
    """Refuse NaN inputs, at the price of a look at every value."""

    def __post_init__(self):
        check(self)
        if self.hidden_dim % self.head_dim or self.head_dim % 2:
            raise InputError(
                f"head_dim {self.head_dim}: expected an even number that divides hidden_dim "
                f"{self.hidden_dim}"
            )

    @property
    def heads(self) -> int:
        return self.hidden_dim // self.head_dim


class ReferenceTTTLayer(nnx.Module):
    """`out = LN(z) Wo`, `z_i = q_i + LN(f(W_i; q_i))` with `W_i` as in `inner.mini_batch`.

    `eta[i, j] = base_rate / d * max(0, 1/i + learned_i) * sigmoid(x_j w_lr + b_lr)`, i from 1;
    rotary positions run within the mini-batch. Called on a text it answers all of it; called on
    the next piece with the state of the last it goes on from there, token by token where a
    mini-batch has been begun: prefill, decode and restart are the same function.
    """

    def __init__(self, config: ReferenceTTTConfig, *, rngs: nnx.Rngs | None = None):
        self.config = config
        rngs = rngs or nnx.Rngs(0)
        width, heads, d = config.hidden_dim, config.heads, config.head_dim

        def normal(*shape: int) -> nnx.Param:
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))

        self.wq, self.wk, self.wv = (normal(width, heads, d) for _ in range(3))
        self.wo = normal(width, width)
        self.rate_weight = normal(width, heads)
        self.rate_bias = nnx.Param(jnp.zeros(heads))
        self.learned_position = nnx.Param(jnp.zeros(config.mini_batch))
        self.gamma = nnx.Param(jnp.ones((heads, d)))
        self.beta = nnx.Param(jnp.zeros((heads, d)))
        self.post_gamma = nnx.Param(jnp.ones(width))
        self.post_beta = nnx.Param(jnp.zeros(width))
        init = FAST_WEIGHTS[config.fast_weight].init
        keys = jax.random.split(rngs.params(), heads)
        initial = jax.vmap(lambda key: init(key, d, 4 * d))(keys)
        self.initial = nnx.Dict({name: nnx.Param(value) for name, value in initial.items()})

    def begin(self, documents: int) -> DecodeState:
        """The state at the start of so many documents, leaves of `fast` and `pull` [B, H, ...]."""
        heads = {name: self.initial[name][...] for name in self.initial}
        return begin(
            jax.tree.map(lambda w: jnp.broadcast_to(w[None], (documents, *w.shape)), heads)
        )

    def __call__(
        self, hidden: Float[Array, "B T D"], state: DecodeState | None = None
    ) -> tuple[Float[Array, "B T D"], DecodeState]:
        """The layer's output for each token, and the state to go on with.

        From the start (`state` None) whole mini-batches go through the dual form.
        """
        config, (b, length, _) = self.config, hidden.shape
        if config.debug:
            refuse_nan(hidden)
        whole = 0 if state is not None else length - length % config.mini_batch
        state = self.begin(b) if state is None else state
        q, k, v, token = self._views(hidden, state.done)
        position = jnp.maximum(
            1 / jnp.arange(1, config.mini_batch + 1) + self.learned_position[...], 0
        ) * (config.base_rate / config.head_dim)
        gamma, beta = (
            jnp.broadcast_to(x[...][None], (b, *x.shape)) for x in (self.gamma, self.beta)
        )
        model, norm, answers = config.fast_weight, Norm(gamma, beta), []

        def part(at: slice):
            return q[:, :, at], k[:, :, at], v[:, :, at], Rates(position, token[:, :, at])

        if whole:
            q1, k1, v1, rates = part(slice(whole))
            out, fast = dual(state.fast, q1, k1, v1, rates, model=model, norm=norm)
            answers, state = [out], begin(fast)
        if whole < length:
            q2, k2, v2, rates = part(slice(whole, length))
            out, state = primal(state, q2, k2, v2, rates, model=model, norm=norm)
            answers.append(out)
        z = jnp.concatenate(answers, axis=2)
        flat = jnp.swapaxes(z, 1, 2).reshape(b * length, -1)  # [B T, H d]
        post = Norm(self.post_gamma[...], self.post_beta[...])
        return (layer_norm(flat, post) @ self.wo[...]).reshape(hidden.shape), state

    def _views(self, x: Float[Array, "B T D"], done):
        """Queries, keys and values [B, H, T, d] with rotary positions; token rates [B, H, T]."""

        def heads(w):  # one flat product: XLA would turn an einsum to heads into copies
            flat = x @ w[...].reshape(x.shape[-1], -1)
            return jnp.swapaxes(flat.reshape(*x.shape[:2], *w.shape[1:]), 1, 2)

        q, k, v = heads(self.wq), heads(self.wk), heads(self.wv)
        at = (done + jnp.arange(x.shape[1])) % self.config.mini_batch
        powers = jnp.arange(0, self.config.head_dim, 2) / self.config.head_dim
        angles = at.astype(float)[:, None] * self.config.rope_base ** -powers[None]
        rate = jnp.einsum("BTD,DH->BHT", x, self.rate_weight[...])
        rate = jax.nn.sigmoid(rate + self.rate_bias[...][None, :, None])
        return _rotate(q, angles), _rotate(k, angles), v, rate


def _rotate(x: Float[Array, "B H T d"], angles: Float[Array, "T half"]) -> jax.Array:
    """Turn the neighbouring pairs (2i, 2i + 1), which is the reference's convention."""
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = jnp.cos(angles)[None, None], jnp.sin(angles)[None, None]
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x.shape)
