"""Gates: learn where a signal exceeds a threshold that follows the stream to a target share.

The threshold moves with every unit that is read and goes on from document to document: it is the
gate's state. The fields of the gate are what a stream starts with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ponderttt import pytree
from ponderttt.errors import InputError
from ponderttt.policies.policy import Memoryless, decided
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Decision, Observation

Signal = Literal["inner_loss", "delta"]


class GateState(NamedTuple):
    """The threshold, the running share of units learned from, and the running mean of the loss."""

    threshold: Float[Array, ""]
    share: Float[Array, ""]
    loss: Float[Array, ""]


@dataclass(frozen=True)
class EMAGate(Memoryless):
    """`d = [signal > tau]`, then `r <- (1-a) r + a d`, `tau <- tau + a (r - rho) |tau|`.

    The gate of arXiv 2601.00894, except that it decides on a unit that has been scored. `signal` is
    the inner loss, or (`delta`) the loss over its running mean. A unit above the threshold takes
    `action`; with `growth` > 1 the residual rules instead: each further action takes `growth` times
    as much (`tau`, `growth tau`, `growth^2 tau`), which needs a positive signal.
    """

    threshold: Float[Array | np.ndarray, ""]
    share: Float[Array | np.ndarray, ""]
    loss: Float[Array | np.ndarray, ""]
    target: Float[Array | np.ndarray, ""]
    rate: Float[Array | np.ndarray, ""]
    signal: Signal = "inner_loss"
    action: str = "UPDATE_1"
    growth: float = 1.0
    actions: ActionSpace = CHUNK_ACTIONS

    def __post_init__(self):
        self.actions.position(self.action)
        if self.signal not in ("inner_loss", "delta"):
            raise InputError(f"unknown signal {self.signal!r}: expected inner_loss or delta")
        if self.growth < 1 or (self.growth > 1 and self.signal == "delta"):
            raise InputError(
                f"growth is {self.growth:g} for {self.signal}: expected 1, or more with inner_loss"
            )

    @classmethod
    def calibrate(
        cls,
        inner_losses: Sequence[float] | Float[Array | np.ndarray, "*B"],
        *,
        target: float = 0.5,
        rate: float = 0.1,
        **options: Any,
    ) -> "EMAGate":
        """`tau` at the (1 - `target`) percentile of the first documents' signals."""
        losses = np.asarray(inner_losses, float).reshape(-1)
        if not losses.size:
            raise InputError("no signal to calibrate on: expected one or more validation units")
        if not 0 <= target <= 1:
            raise InputError(f"the target share is {target:g}: expected 0 to 1")
        mean = float(losses.mean())
        signals = losses - mean if options.get("signal") == "delta" else losses
        tau = float(np.quantile(signals, 1 - target))
        start = [np.asarray(x, np.float32) for x in (tau, target, mean, target, rate)]
        return cls(start[0], start[1], start[2], start[3], start[4], **options)

    @property
    def max_steps(self) -> int:
        if self.growth > 1:
            return self.actions.max_steps
        return self.actions.steps[self.actions.position(self.action)]

    @property
    def follows_stream(self) -> bool:
        return True

    def init(self, key: PRNGKeyArray) -> GateState:
        return GateState(*(jnp.asarray(x) for x in (self.threshold, self.share, self.loss)))

    def act(
        self, state: GateState, observation: Observation, key: PRNGKeyArray
    ) -> tuple[Decision, GateState]:
        inner_loss, rate = observation.inner_loss, jnp.asarray(self.rate)
        signal = inner_loss - state.loss if self.signal == "delta" else inner_loss
        above = signal > state.threshold
        if self.growth > 1:
            levels = state.threshold * self.growth ** jnp.arange(
                len(self.actions.names) - 1, dtype=float
            )
            action = jnp.sum(signal > levels)
        else:
            action = jnp.where(above, self.actions.position(self.action), 0)
        share = (1 - rate) * state.share + rate * above.astype(float)
        moved = GateState(
            state.threshold + rate * (share - self.target) * jnp.abs(state.threshold),
            share,
            (1 - rate) * state.loss + rate * inner_loss,
        )
        real = jnp.any(observation.mask)
        return decided(action), jax.tree.map(lambda a, b: jnp.where(real, a, b), moved, state)


pytree.register(
    EMAGate,
    meta_fields=["signal", "action", "growth", "actions"],
)
