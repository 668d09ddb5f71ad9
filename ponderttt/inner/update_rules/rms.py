"""Dynamic evaluation: every weight steps by a rate of its own, from the squares of its gradients.

Krause et al., 1709.07432 and 1904.08378.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from ponderttt import pytree
from ponderttt.errors import InputError
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules.protocol import Number, Rate, RuleState
from ponderttt.inner.update_rules.scaling import MovingSquares, pulled_back, rescaled_step, roots


@dataclass(frozen=True)
class SumOfSquares:
    """`W <- W - rate * g / (SS + eps)`, with `SS` the sum of `g^2` over training documents.

    `root` divides by `sqrt(SS) + eps` instead (of dynamic-eval-gpt-2 and dynamiceval-transformer,
    the second). A pull adds `min(1, pull * sqrt(SS)) * (W_0 - W)`. `statistics`: `Gather`'s state.
    """

    rate: Rate
    statistics: Any
    eps: Number = 1e-3
    pull: Number | None = None
    root: bool = False

    def init(self, fast: Fast) -> RuleState:
        _check_statistics(self.statistics, fast)
        return () if self.pull is None else fast

    def step(self, fast: Fast, gradient: Fast, state: RuleState) -> tuple[Fast, RuleState]:
        root = roots(self.statistics)
        scale = root if self.root else self.statistics
        moved = rescaled_step(fast, gradient, self.rate, scale, self.eps)
        if self.pull is not None:
            moved = pulled_back(moved, fast, state, self.pull, root)
        return moved, state


class RMSState(NamedTuple):
    """The moving squares, and `W_0` where there is a pull."""

    squares: MovingSquares
    initial: Fast


@dataclass(frozen=True)
class OnlineRMS:
    """`W <- W - rate * g / (sqrt(v_hat) + eps)`: RMSProp, from this document's gradients alone.

    `v <- decay v + (1 - decay) g^2`, `v_hat = v / (1 - decay^t)`. A pull adds
    `min(1, pull * sqrt(v_hat)) * (W_0 - W)`.
    """

    rate: Rate
    decay: Number = 0.9
    eps: Number = 1e-8
    pull: Number | None = None

    def init(self, fast: Fast) -> RMSState:
        return RMSState(MovingSquares.empty(fast), () if self.pull is None else fast)

    def step(self, fast: Fast, gradient: Fast, state: RMSState) -> tuple[Fast, RMSState]:
        squares = state.squares.add(gradient, self.decay)
        root = squares.root_mean()
        moved = rescaled_step(fast, gradient, self.rate, root, self.eps)
        if self.pull is not None:
            moved = pulled_back(moved, fast, state.initial, self.pull, root)
        return moved, state._replace(squares=squares)


def _check_statistics(statistics: Any, fast: Fast) -> None:
    gather = "gather them on training documents, with rule=Gather() on the same adapter"
    if statistics is None:
        raise InputError(f"the rule has no statistics: {gather}")
    found, expected = (str(jax.tree.map(np.shape, tree)) for tree in (statistics, fast))
    if found != expected:
        raise InputError(f"statistics of shapes {found}: expected {expected}; {gather}")


pytree.register(SumOfSquares, meta_fields=["root"])
pytree.register(OnlineRMS)
