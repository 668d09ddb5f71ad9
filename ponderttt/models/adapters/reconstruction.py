"""The reconstruction objective: a trained TTT layer on the last hidden state."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ponderttt import pytree
from ponderttt.errors import InputError
from ponderttt.inner import Views
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.limit import limit
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.protocol import Unit, UnitOutput
from ponderttt.models.adapters.ttt_layer import TTTLayer
from ponderttt.models.decoder.lm import TransformerLM


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
    def suffix_blocks(self) -> int:
        return 0

    @property
    def rule(self) -> SGD:
        return SGD(self.scale * self.layer.rate(), self.clip, self.decay)

    def init(self, lm: TransformerLM) -> Fast:
        return self.layer.initial_fast()

    def view(self, lm: TransformerLM, unit: Unit) -> tuple[Unit, Views]:
        return unit, self.layer.views(unit.hidden, unit.mask)

    def read(self, lm: TransformerLM, fast: Fast, view: tuple[Unit, Views], *, learns: bool):
        unit, views = view
        return UnitOutput(self.layer.add(fast, unit.hidden.astype(jnp.float32), views), (), None)

    def observed_loss(self, fast: Fast, view: tuple[Unit, Views], token_nll):
        return self.layer.loss(fast, view[1])

    def gradient(
        self, lm: TransformerLM, fast: Fast, view: tuple[Unit, Views], reading: Any = None
    ) -> Fast:
        return self.layer.gradient(fast, view[1])


@dataclass(frozen=True)
class ReconstructionLimit(Reconstruction):
    """`Reconstruction` whose one step is all of them: it goes to the limit that they converge to.

    For linear fast weights without a norm (`TTTConfig(norm=False)`); others are an `InputError`.
    """

    @property
    def rule(self) -> SGD:
        return SGD(jnp.ones(()), self.clip, self.decay)

    def gradient(
        self, lm: TransformerLM, fast: Fast, view: tuple[Unit, Views], reading: Any = None
    ) -> Fast:
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


for _kind in (Reconstruction, ReconstructionLimit):
    pytree.register(_kind, meta_fields=["graph"])
