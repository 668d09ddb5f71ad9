"""Adapters: how fast weights change the language model's prediction, and what they descend.

An adapter is a pytree; `rollout` hands it one unit of one document at a time. `hidden` are cached
states of the frozen base: the last ones, or those before the last `suffix_blocks` blocks.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ponderttt import pytree
from ponderttt.inner import Views, additive, low_rank
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.limit import limit
from ponderttt.models.head import head_nll
from ponderttt.models.lm import TransformerLM
from ponderttt.models.ttt_layer import TTTLayer
from ponderttt.types import InputError, masked_mean


class Unit(NamedTuple):
    """One unit as the adapter meets it.

    `hidden` holds the unit's whole attention chunk when suffix blocks have to run (the unit starts
    at `offset`), else the unit alone. Later units in the chunk are there but causally masked.
    """

    hidden: Float[Array, "C D"]
    offset: Int[Array, ""]
    tokens: Int[Array, "U"]
    mask: Bool[Array, "U"]


class Adapter(Protocol):
    """Fast weights on a frozen language model, and their inner objective."""

    @property
    def objective(self) -> str:
        """`next_token` or `reconstruction` (static)."""

    @property
    def spec(self) -> str:
        """Everything static about it: with the arrays, what it will do."""

    @property
    def suffix_blocks(self) -> int:
        """How many of the base's last blocks run inside the rollout (static)."""

    @property
    def rate(self) -> Float[Array, "*H"]:
        """The inner rate: a scalar or one a head."""

    @property
    def clip(self) -> Float[Array, ""] | None:
        """Bound on the gradient's global norm."""

    @property
    def decay(self) -> Float[Array, ""] | None:
        """Pull towards the initial weights at each step."""

    def init(self, lm: TransformerLM) -> Fast:
        """The fast weights at the start of a document."""

    def view(self, lm: TransformerLM, unit: Unit) -> Any:
        """What prediction and inner loss need of a unit, computed once."""

    def hidden(self, lm: TransformerLM, fast: Fast, view: Any) -> Float[Array, "U D"]:
        """The hidden states that the head reads."""

    def observed_loss(self, fast: Fast, view: Any, token_nll: Float[Array, "U"]):
        """The inner loss before adapting, from what scoring computed anyway where it can be."""

    def gradient(self, lm: TransformerLM, fast: Fast, view: Any) -> Fast:
        """Of the inner loss: what `adapt` descends along."""


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy of the unit just scored, through additive fast weights (zero at the start).

    `suffix_blocks = 0`: a map on the last hidden state, `h + W h / |h|` (or `h + B A h / |h|` with
    `rank`); the input is a unit vector, so that a rate means the same for any model.
    `suffix_blocks = m`: additions to the products named in `targets` of the last m blocks (LoRA
    with `rank`; full-rank additions to the MLP's output product as in In-Place TTT without).
    """

    rate: Float[Array, ""]
    clip: Float[Array, ""] | None = None
    decay: Float[Array, ""] | None = None
    suffix_blocks: int = 0
    rank: int | None = None
    targets: tuple[str, ...] = ("mlp_out",)
    seed: int = 0

    @property
    def objective(self) -> str:
        return "next_token"

    @property
    def spec(self) -> str:
        return f"{self.suffix_blocks} {self.rank} {self.targets} {self.seed}"

    def init(self, lm: TransformerLM) -> Fast:
        width = lm.config.width
        if not self.suffix_blocks:
            return self._addition((width, width), 0)
        shapes = lm.projection_shapes()
        unknown = sorted(set(self.targets) - set(shapes))
        if unknown:
            raise InputError(f"unknown projection {unknown[0]!r}: expected {', '.join(shapes)}")
        return {
            name: self._addition((self.suffix_blocks, *shapes[name]), i)
            for i, name in enumerate(self.targets)
        }

    def _addition(self, shape: tuple[int, ...], index: int) -> Fast:
        if self.rank is None:
            return additive(shape)
        return low_rank(jax.random.key(self.seed + index), shape, self.rank)

    def view(self, lm: TransformerLM, unit: Unit) -> Unit:
        return unit

    def hidden(self, lm: TransformerLM, fast: Fast, view: Unit) -> Float[Array, "U D"]:
        if not self.suffix_blocks:
            h = view.hidden.astype(jnp.float32)
            unit = h * jax.lax.rsqrt(jnp.sum(h**2, axis=-1, keepdims=True) + 1e-12)
            return h + (unit @ fast["w"] if self.rank is None else unit @ fast["a"] @ fast["b"])
        out = lm.suffix_states(view.hidden[None], self.suffix_blocks, deltas=fast)[0]
        return jax.lax.dynamic_slice_in_dim(out, view.offset, view.tokens.shape[0])

    def observed_loss(self, fast: Fast, view: Unit, token_nll: Float[Array, "U"]):
        return masked_mean(token_nll, view.mask)

    def gradient(self, lm: TransformerLM, fast: Fast, view: Unit) -> Fast:
        def loss(fast):
            losses = token_losses(lm, self.hidden(lm, fast, view), view.tokens)
            return masked_mean(losses, view.mask)

        return jax.grad(loss)(fast)


@dataclass(frozen=True)
class Reconstruction:
    """A trained `TTTLayer` on the last hidden state; its fast weights descend reconstruction.

    Made by `Reconstruction.of(layer)`. `scale` multiplies the learned per-head rates.
    """

    graph: nnx.GraphDef
    state: nnx.State
    scale: Float[Array, ""]
    clip: Float[Array, ""] | None = None
    decay: Float[Array, ""] | None = None

    @classmethod
    def of(cls, layer: TTTLayer, *, scale: float = 1.0, clip: float | None = None):
        """The adapter of `layer`, whose slow weights it holds as its state."""
        graph, state = nnx.split(layer)
        return cls(graph, state, jnp.asarray(scale), None if clip is None else jnp.asarray(clip))

    @property
    def layer(self) -> TTTLayer:
        return nnx.merge(self.graph, self.state)

    @property
    def objective(self) -> str:
        return "reconstruction"

    @property
    def spec(self) -> str:
        return repr(self.layer.config)

    @property
    def suffix_blocks(self) -> int:
        return 0

    @property
    def rate(self) -> Float[Array, "H"]:
        return self.scale * self.layer.rate()

    def init(self, lm: TransformerLM) -> Fast:
        return self.layer.initial_fast()

    def view(self, lm: TransformerLM, unit: Unit) -> tuple[Unit, Views]:
        return unit, self.layer.views(unit.hidden, unit.mask)

    def hidden(self, lm: TransformerLM, fast: Fast, view: tuple[Unit, Views]):
        unit, views = view
        return self.layer.add(fast, unit.hidden.astype(jnp.float32), views)

    def observed_loss(self, fast: Fast, view: tuple[Unit, Views], token_nll):
        return self.layer.loss(fast, view[1])

    def gradient(self, lm: TransformerLM, fast: Fast, view: tuple[Unit, Views]) -> Fast:
        return self.layer.gradient(fast, view[1])


@dataclass(frozen=True)
class ReconstructionLimit(Reconstruction):
    """`Reconstruction` whose one step is all of them: it goes to the limit that they converge to.

    For linear fast weights without a norm (`TTTConfig(norm=False)`); others are an `InputError`.
    """

    @property
    def rate(self) -> Float[Array, ""]:
        return jnp.ones(())

    def gradient(self, lm: TransformerLM, fast: Fast, view: tuple[Unit, Views]) -> Fast:
        """The way to the limit: Newton's step on a quadratic."""
        if self.layer.config.norm or self.layer.config.fast_weight != "linear":
            raise InputError("the limit is known for linear fast weights without a norm: use adapt")
        if self.clip is not None or self.decay is not None:
            raise InputError("a step to the limit takes neither a clip nor a decay: leave them out")
        views = view[1]
        there = jax.vmap(lambda fast, k, v: limit(fast, k, v, mask=views.mask))(
            fast, views.k, views.v
        )
        return jax.tree.map(jnp.subtract, fast, there)


pytree.register(
    NextToken,
    meta_fields=["suffix_blocks", "rank", "targets", "seed"],
)
for _kind in (Reconstruction, ReconstructionLimit):
    pytree.register(_kind, meta_fields=["graph"])


def token_losses(
    lm: TransformerLM, hidden: Float[Array, "*shape D"], tokens: Int[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Cross-entropy of each token given the hidden state that predicts it, in nats."""
    return head_nll(hidden.astype(lm.head.dtype), lm.head, tokens)
