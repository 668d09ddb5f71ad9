"""A TTT layer in a block's place of attention: fast weights that take K_t steps on every token.

Axes: B documents, T tokens, N units (T / mini_batch), D width, H heads, d head width, A options.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ponderttt.errors import InputError
from ponderttt.inner import FAST_WEIGHTS, Norm, learn
from ponderttt.inner.closed_form import effective_rate
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.objectives import weighted_gradient
from ponderttt.inner.update_rules import global_norm
from ponderttt.models.iterative.config import RATE_PERIOD, IterativeTransformerConfig
from ponderttt.models.iterative.halting import HaltingPolicyNetwork
from ponderttt.models.iterative.reference_ttt import ReferenceTTTConfig, ReferenceTTTLayer


class Allocation(NamedTuple):
    """The steps of each unit; how a policy with probabilities came to them.

    `log_probs` of all options and the `action` taken. `mixed`: all options at once, weighted by
    their probabilities; `steps` is then their mean.
    """

    steps: Int[Array, "B N"] | Float[Array, "B N"]
    log_probs: Float[Array, "B N A"] | None = None
    action: Int[Array, "B N"] | None = None
    mixed: bool = False


class TTTMixer(nnx.Module):
    """Views `q, k, v` of each token, fast weights that learn `k -> v`, and what they say of `q`.

    Keys and queries have norm 1 in every head, so that one inner rate suits all tokens: linear fast
    weights without a norm then converge at any rate below 1. A token is learned from before its
    query is answered (which is causal: its views come from tokens up to it), a longer mini-batch
    after.
    """

    def __init__(self, config: IterativeTransformerConfig, *, rngs: nnx.Rngs):
        self.config = config
        width, heads, d = config.hidden_dim, config.num_heads, config.head_dim
        self.policy = HaltingPolicyNetwork(config, rngs=rngs)
        if config.ttt_layer == "reference":
            shape = ReferenceTTTConfig(width, head_dim=d, fast_weight=config.fast_weight)
            self.reference = ReferenceTTTLayer(shape, rngs=rngs)
            return
        deviation = width**-0.5
        self.qkv = nnx.Param(deviation * jax.random.normal(rngs.params(), (width, 3 * width)))
        deviation /= (2 * config.num_layers) ** 0.5
        self.out = nnx.Param(deviation * jax.random.normal(rngs.params(), (width, width)))
        init = FAST_WEIGHTS[config.fast_weight].init
        keys = jax.random.split(rngs.params(), heads)
        initial = jax.vmap(lambda key: init(key, d, config.fast_weight_hidden_dim))(keys)
        self.initial = nnx.Dict({name: nnx.Param(value) for name, value in initial.items()})
        self.log_rate = nnx.Param(jnp.zeros(heads))
        if config.rate == "position":
            self.learned_position = nnx.Param(jnp.zeros(RATE_PERIOD))
        if config.norm:
            self.gamma = nnx.Param(jnp.ones((heads, d)))
            self.beta = nnx.Param(jnp.zeros((heads, d)))

    def decide(self, x: Float[Array, "B T D"]) -> Float[Array, "B N A"]:
        """The halting network's logits, at the last token of each unit."""
        return self.policy(x)[:, self.config.mini_batch - 1 :: self.config.mini_batch]

    def initial_fast(self, documents: int) -> Fast:
        """The fast weights at the start of so many documents, leaves [B, H, ...]."""
        heads = {name: self.initial[name][...] for name in self.initial}
        return {name: jnp.broadcast_to(w[None], (documents, *w.shape)) for name, w in heads.items()}

    def rates(self, documents: int, length: int) -> Float[Array, "B H T"]:
        """The inner rate of each token; the factors of heads are trained if the config says so."""
        config = self.config
        factor = jnp.exp(self.log_rate[...])
        if not config.learned_rate:
            factor = jax.lax.stop_gradient(factor)
        rate = jnp.full(length, config.ttt_base_lr)
        if config.rate == "position":
            at = jnp.arange(length) % RATE_PERIOD
            rate = rate * jnp.maximum(1 / (at + 1) + self.learned_position[...][at], 0)
        return jnp.broadcast_to(
            factor[None, :, None] * rate[None, None], (documents, config.num_heads, length)
        )

    def views(self, x: Float[Array, "B T D"]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values [B, H, T, d]."""
        b, t, _ = x.shape
        heads = (b, t, 3, self.config.num_heads, self.config.head_dim)
        q, k, v = jnp.moveaxis((x @ self.qkv[...]).reshape(heads), (2, 3), (0, 2))
        return _unit_norm(q), _unit_norm(k), v

    def __call__(self, x: Float[Array, "B T D"], allocation: Allocation) -> Float[Array, "B T D"]:
        """What the layer adds to the stream."""
        config, (b, t, width) = self.config, x.shape
        if t % config.mini_batch:
            raise InputError(
                f"a text of {t} tokens is no number of mini-batches of {config.mini_batch}: "
                "expected a multiple"
            )
        if config.ttt_layer == "reference":
            return self.reference(x)[0]
        q, k, v = self.views(x)
        fast, rate, steps = self.initial_fast(b), self.rates(b, t), allocation.steps
        if allocation.mixed and allocation.log_probs is not None:
            rate = self._expected_rate(rate, k, jnp.exp(allocation.log_probs))
            steps = jnp.ones(steps.shape, jnp.int32)
        steps = jnp.broadcast_to(steps[:, None], (b, config.num_heads, steps.shape[1]))
        out, _ = learn(
            fast, q, k, v, rate=rate, steps=steps, max_steps=config.max_steps,
            unit=config.mini_batch, model=config.fast_weight, norm=self._norm(b),
            order="adapt_first" if config.mini_batch == 1 else "predict_first",
        )  # fmt: skip
        return jnp.moveaxis(out, 1, 2).reshape(b, t, width) @ self.out[...]

    def _norm(self, documents: int) -> Norm | None:
        if not self.config.norm:
            return None
        gamma, beta = (
            jnp.broadcast_to(p[...][None], (documents, *p.shape)) for p in (self.gamma, self.beta)
        )
        return Norm(gamma, beta)

    def _expected_rate(self, rate, k, shares: Float[Array, "B T A"]) -> Float[Array, "B H T"]:
        """`sum_K p(K) beta_K`: the mean over draws of what the closed form writes at each token.

        The fast weights are affine in it, and the draws do not depend on them, so their mean over
        all draws is what this rate gives (linear, no norm).
        """
        config = self.config
        if config.fast_weight != "linear" or config.norm or config.mini_batch > 1:
            raise InputError(
                "the exact expectation over steps is known for linear fast weights without a norm, "
                "token by token: draw the steps instead"
            )
        square = jnp.sum(k**2, axis=-1) + 1  # the bias is one more key, equal to 1
        each = [
            effective_rate(rate, square, jnp.full(rate.shape, option), config.max_steps)
            for option in config.step_options
        ]
        return jnp.einsum("ABHT,BTA->BHT", jnp.stack(each), shares)

    def gradient_norm(self, x: Float[Array, "B T D"]) -> Float[Array, "B T"]:
        """Norm over all heads of each token's inner gradient, at a document's first weights."""
        _, k, v = self.views(jax.lax.stop_gradient(x))
        fast = {name: self.initial[name][...] for name in self.initial}
        gamma = Norm(self.gamma[...], self.beta[...]) if self.config.norm else None

        def one(k, v):  # [H d] each
            ones = jnp.ones((self.config.num_heads, 1))
            return global_norm(
                weighted_gradient(
                    fast, k[:, None], v[:, None], ones, model=self.config.fast_weight, norm=gamma
                )
            )

        return jax.vmap(jax.vmap(one))(jnp.moveaxis(k, 1, 2), jnp.moveaxis(v, 1, 2))


def _unit_norm(x: Float[Array, "*lead d"]) -> Float[Array, "*lead d"]:
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-6)
