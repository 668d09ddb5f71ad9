"""Gradient descent by steps of one length."""

from dataclasses import dataclass

import jax

from ponderttt import pytree
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules.protocol import Number, Rate, RuleState
from ponderttt.inner.update_rules.scaling import global_norm, scaled


@dataclass(frozen=True)
class NormalizedGradient:
    """A step of length `rate` along the gradient: `W <- W - rate * g / (|g| + eps)`.

    `|g|` is the joint norm of all leaves.
    """

    rate: Rate
    eps: Number = 1e-8

    def init(self, fast: Fast) -> RuleState:
        return ()

    def step(self, fast: Fast, gradient: Fast, state: RuleState) -> tuple[Fast, RuleState]:
        size = global_norm(gradient) + self.eps
        return jax.tree.map(lambda w, g: w - scaled(self.rate, g / size), fast, gradient), state


pytree.register(NormalizedGradient)
