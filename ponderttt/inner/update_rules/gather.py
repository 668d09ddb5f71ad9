"""Statistics of gradients, gathered before a rule uses them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ponderttt import pytree
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules.protocol import RuleState


@dataclass(frozen=True)
class Gather:
    """Gather the statistics of `SumOfSquares`: `SS <- SS + g^2`, and `W` stays as it is."""

    def init(self, fast: Fast) -> RuleState:
        return jax.tree.map(jnp.zeros_like, fast)

    def step(self, fast: Fast, gradient: Fast, state: RuleState) -> tuple[Fast, RuleState]:
        return fast, jax.tree.map(lambda total, g: total + g**2, state, gradient)


pytree.register(Gather)
