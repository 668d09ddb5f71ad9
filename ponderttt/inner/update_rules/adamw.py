"""AdamW without a first moment."""

from dataclasses import dataclass

import jax

from ponderttt import pytree
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules.protocol import Number, Rate
from ponderttt.inner.update_rules.scaling import MovingSquares, rescaled_step, scaled


@dataclass(frozen=True)
class AdamW:
    """`W <- W - rate * weight_decay * W - rate * g / (sqrt(v_hat) + eps)`: AdamW with beta1 = 0.

    `v <- beta2 v + (1 - beta2) g^2`, `v_hat = v / (1 - beta2^t)`. Loshchilov and Hutter,
    1711.05101; beta1 = 0 and these defaults as in parameter-golf's records (PR 1626, 1855).
    """

    rate: Rate
    beta2: Number = 0.99
    eps: Number = 1e-8
    weight_decay: Number = 0.5

    def init(self, fast: Fast) -> MovingSquares:
        return MovingSquares.empty(fast)

    def step(self, fast: Fast, gradient: Fast, state: MovingSquares) -> tuple[Fast, MovingSquares]:
        state = state.add(gradient, self.beta2)
        shrunk = jax.tree.map(lambda w: w - scaled(self.rate, self.weight_decay * w), fast)
        return rescaled_step(shrunk, gradient, self.rate, state.root_mean(), self.eps), state


pytree.register(AdamW)
