"""The TTT layer: slow projections around fast weights that learn while the text is read."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ponderttt.checks import Count, Positive, check
from ponderttt.errors import InputError
from ponderttt.inner import (
    FAST_WEIGHTS,
    Views,
    adapt,
    read_out,
    reconstruction_gradient,
    reconstruction_loss,
)
from ponderttt.inner.descent import most_steps
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules import SGD
from ponderttt.models.norms import rms_norm


@dataclass(frozen=True)
class TTTConfig:
    """Shape of a `TTTLayer`.

    Args:
        hidden_dim: width D of the states.
        chunk_size: tokens of the unit that shares a gradient.
        head_dim: width d of a head; it divides `hidden_dim`.
        fast_weight: `linear` or `mlp`.
        fast_weight_hidden_dim: hidden width of the mlp.
        norm: answer `q + LN(f(q))`, as TTT-Linear does, in place of `f(q)`.
        base_rate: the inner rate of every head at the start.
        debug: refuse NaN inputs, at the price of a look at every value.

    Raises:
        InputError: a `head_dim` that does not divide, an unknown `fast_weight`.

    >>> TTTConfig(hidden_dim=128, head_dim=32).heads
    4
    """

    hidden_dim: Count
    chunk_size: Count = 256
    head_dim: Count = 64
    fast_weight: Literal["linear", "mlp"] = "linear"
    fast_weight_hidden_dim: Count = 256
    norm: bool = True
    base_rate: Positive = 0.1
    debug: bool = False

    def __post_init__(self):
        check(self)
        if self.hidden_dim % self.head_dim:
            raise InputError(
                f"head_dim {self.head_dim} does not divide hidden_dim {self.hidden_dim}"
            )

    @property
    def heads(self) -> int:
        return self.hidden_dim // self.head_dim


class TTTLayer(nnx.Module):
    """TTT-Linear / TTT-MLP (Sun et al., 2407.04620) on hidden states, one gradient a unit.

    `x = RMSNorm(h)`; views `q, k, v = x Wq, x Wk, x Wv` per head; `z = q + LN(f(q))`; the layer
    adds `RMSNorm(z) Wo / sqrt(D)`, with `Wo = 0` at the start: an untrained layer changes nothing.
    Slow parameters: projections, norms, `W_0` of the fast weights, and one log rate a head.

    Args:
        config: its shape.
        rngs: for the slow weights' random start; None is seed 0.

    Called on `hidden` [B, T, D] with `steps`, it gives new states [B, T, D] and statistics.

    >>> layer = TTTLayer(TTTConfig(hidden_dim=16, chunk_size=4, head_dim=8))
    >>> hidden, stats = layer(jnp.ones((2, 12, 16)), steps=2)
    >>> hidden.shape, stats["inner_loss"].shape
    ((2, 12, 16), (2, 3))
    """

    def __init__(self, config: TTTConfig, *, rngs: nnx.Rngs | None = None):
        self.config = config
        rngs = rngs or nnx.Rngs(0)
        width, heads, d = config.hidden_dim, config.heads, config.head_dim

        def projection():
            weight = jax.random.normal(rngs.params(), (width, heads, d)) / jnp.sqrt(width)
            return nnx.Param(weight)

        self.wq, self.wk, self.wv = projection(), projection(), projection()
        self.wo = nnx.Param(jnp.zeros((width, width)))
        self.input_scale = nnx.Param(jnp.ones(width))
        self.output_scale = nnx.Param(jnp.ones(width))
        self.gamma = nnx.Param(jnp.ones((heads, d)))
        self.beta = nnx.Param(jnp.zeros((heads, d)))
        self.log_rate = nnx.Param(jnp.full(heads, jnp.log(config.base_rate)))
        keys = jax.random.split(rngs.params(), heads)
        initial = jax.vmap(
            lambda key: FAST_WEIGHTS[config.fast_weight].init(key, d, config.fast_weight_hidden_dim)
        )(keys)
        self.initial = nnx.Dict({name: nnx.Param(value) for name, value in initial.items()})

    def initial_fast(self) -> Fast:
        """The fast weights of every head at the start of a document, leaves [H, ...]."""
        return {name: self.initial[name][...] for name in self.initial}

    def rate(self) -> Float[Array, "H"]:
        """The inner rate of each head."""
        return jnp.exp(self.log_rate[...])

    def views(self, hidden: Float[Array, "U D"], mask: Bool[Array, "U"]) -> Views:
        """Queries, keys and values of one unit."""
        x = rms_norm(hidden, self.input_scale[...])
        q, k, v = (jnp.einsum("UD,DHd->HUd", x, w[...]) for w in (self.wq, self.wk, self.wv))
        return Views(q, k, v, self.gamma[...], self.beta[...], mask)

    def loss(self, fast: Fast, views: Views) -> Float[Array, ""]:
        """The inner loss: see `ponderttt.inner.reconstruction_loss`."""
        return reconstruction_loss(
            fast, views, model=self.config.fast_weight, norm=self.config.norm
        )

    def gradient(self, fast: Fast, views: Views) -> Fast:
        """The gradient of `loss`, written out by hand: no second derivatives by autodiff."""
        return reconstruction_gradient(
            fast, views, model=self.config.fast_weight, norm=self.config.norm
        )

    def add(self, fast: Fast, hidden: Float[Array, "U D"], views: Views) -> Float[Array, "U D"]:
        """`hidden` plus what the fast weights say of it."""
        z = read_out(fast, views, model=self.config.fast_weight, norm=self.config.norm)
        flat = jnp.swapaxes(z, 0, 1).reshape(hidden.shape)
        # A unit vector into Wo: a step of AdamW moves the logits by about as much in any model.
        unit = rms_norm(flat, self.output_scale[...]) * self.config.hidden_dim**-0.5
        return hidden + unit @ self.wo[...]

    def __call__(
        self,
        hidden: Float[Array, "B T D"],
        steps: Int[Array, "B N"] | int = 1,
        *,
        max_steps: int | None = None,
    ) -> tuple[Float[Array, "B T D"], dict[str, jax.Array]]:
        """Read `hidden` unit by unit: each unit is answered first and learned from afterwards.

        Args:
            hidden: states of B documents; `chunk_size` divides T.
            steps: gradient steps K, one number for all units or one a unit.
            max_steps: the most of `steps`; needed under jit where there is one a unit.

        Returns:
            The new states, and `stats`: `inner_loss` [B, N] before each adaptation.

        Raises:
            InputError: a T that is no number of units, steps out of range, under `debug` a NaN.
        """
        b, t, width = hidden.shape
        unit = self.config.chunk_size
        if self.config.debug:
            refuse_nan(hidden)
        if t % unit:
            raise InputError(f"chunk_size {unit} does not divide the sequence length {t}")
        max_steps = most_steps(steps, max_steps)
        allocation = jnp.broadcast_to(jnp.asarray(steps), (b, t // unit))
        mask = jnp.ones(unit, bool)

        @jax.checkpoint  # the outer backward keeps the fast weights that each unit found, no more
        def read(fast, inputs):
            x, k = inputs
            views = self.views(x, mask)
            out, loss = self.add(fast, x, views), self.loss(fast, views)
            fast = adapt(
                fast, views, k, rule=SGD(self.rate()), gradient=self.gradient, max_steps=max_steps
            )
            return fast, (out, loss)

        def document(x, k):
            return jax.lax.scan(read, self.initial_fast(), (x, k))[1]

        units = hidden.reshape(b, t // unit, unit, width)
        out, loss = jax.vmap(document)(units, allocation)
        return out.reshape(hidden.shape), {"inner_loss": loss}


def refuse_nan(hidden: Float[Array, "B T D"]) -> None:
    """An `InputError` that names the first document with a NaN or an infinity.

    What is traced has no values to look at: call the layer outside jit to find the culprit.
    """
    if isinstance(hidden, jax.core.Tracer):
        return
    bad = jnp.any(~jnp.isfinite(hidden), axis=(1, 2))
    if bool(jnp.any(bad)):
        raise InputError(
            f"hidden states of document {int(jnp.argmax(bad))} hold NaN or infinity: "
            "expected finite numbers; look at what computed them"
        )
