"""Plain gradient descent, with a clip and a pull back as options."""

from dataclasses import dataclass

import jax

from ponderttt import pytree
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules.protocol import Number, Rate, RuleState
from ponderttt.inner.update_rules.scaling import clip_by_global_norm, scaled


@dataclass(frozen=True)
class SGD:
    """Gradient descent: `W <- W - rate * clip(g) - decay * (W - W_0)`.

    `clip` bounds the joint norm of the gradient. The state holds `W_0`, where there is a decay.
    """

    rate: Rate
    clip: Number | None = None
    decay: Number | None = None

    def init(self, fast: Fast) -> RuleState:
        return () if self.decay is None else fast

    def step(self, fast: Fast, gradient: Fast, state: RuleState) -> tuple[Fast, RuleState]:
        if self.clip is not None:
            gradient = clip_by_global_norm(gradient, self.clip)
        moved = jax.tree.map(lambda w, g: w - scaled(self.rate, g), fast, gradient)
        if self.decay is not None:
            moved = jax.tree.map(lambda m, w, w0: m - self.decay * (w - w0), moved, fast, state)
        return moved, state


pytree.register(SGD)
