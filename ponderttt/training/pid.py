"""The Lagrange multiplier of a budget as the output of a PID controller (Stooke et al. 2020)."""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ponderttt.checks import Bounds, Count, NonNegative, Positive, check


@dataclass(frozen=True)
class PIDConfig:
    """Gains on the relative violation; `delay` in iterations; the multiplier stays in 0..`limit`.

    `form="velocity"` is wrong, and kept as a control: see `pid_step`.
    """

    kp: NonNegative = 0.1
    ki: NonNegative = 0.01
    kd: NonNegative = 0.01
    delay: Count = 10
    smoothing: Annotated[float, Bounds(0, below=1)] = 0.95
    limit: Positive = 100.0
    form: Literal["positional", "velocity"] = "positional"

    def __post_init__(self):
        check(self)


class PIDState(NamedTuple):
    """What the controller remembers; `past` holds smoothed relative costs, the oldest first."""

    started: Bool[Array, ""]
    integral: Float[Array, ""]
    error: Float[Array, ""]
    cost: Float[Array, ""]
    past: Float[Array, "delay"]
    multiplier: Float[Array, ""]
    last: Float[Array, ""]
    """The velocity form's last error."""


def pid_init(config: PIDConfig) -> PIDState:
    """A controller that has seen nothing: multiplier 0."""
    zero = jnp.zeros(())
    return PIDState(jnp.zeros((), bool), zero, zero, zero, jnp.zeros(config.delay), zero, zero)


def pid_step(
    config: PIDConfig,
    state: PIDState,
    cost: Float[Array, ""],
    budget: Float[Array, ""] | float,
) -> tuple[PIDState, Float[Array, ""]]:
    """The multiplier after an iteration of mean cost `cost` a unit, against `budget` > 0.

    With `e = (cost - budget) / budget` and s the smoothing,

        I <- max(0, I + Ki e);  ebar <- s ebar + (1 - s) e;  Jbar <- s Jbar + (1 - s) cost / budget
        D = max(0, Jbar - Jbar delayed);  multiplier = clip(Kp ebar + I + Kd D, 0, limit)

    `Jbar` and its delay line start at the first relative cost: from zero, the first D would be the
    whole cost. `I` cannot go below 0, so a long slack leaves nothing to unwind.

    The velocity form adds `Kp e + Ki I + Kd de` to the multiplier, where `I` is the sum of the
    errors: it integrates what the positional form gives out, and so integrates twice. It is how
    earlier code went wrong.
    """
    relative = jnp.asarray(cost / budget, jnp.float32)
    error = relative - 1.0
    if config.form == "velocity":
        return _velocity(config, state, error)
    s = config.smoothing
    integral = jnp.maximum(0.0, state.integral + config.ki * error)
    smooth_error = s * state.error + (1 - s) * error
    smooth_cost = jnp.where(state.started, s * state.cost + (1 - s) * relative, relative)
    past = jnp.where(state.started, state.past, relative)
    rise = jnp.maximum(0.0, smooth_cost - past[0])
    multiplier = jnp.clip(config.kp * smooth_error + integral + config.kd * rise, 0.0, config.limit)
    state = state._replace(
        started=jnp.ones((), bool),
        integral=integral,
        error=smooth_error,
        cost=smooth_cost,
        past=jnp.append(past[1:], smooth_cost),
        multiplier=multiplier,
    )
    return state, multiplier


def _velocity(
    config: PIDConfig, state: PIDState, error: Float[Array, ""]
) -> tuple[PIDState, Float[Array, ""]]:
    change = jnp.where(state.started, error - state.last, 0.0)
    integral = state.integral + error
    step = config.kp * error + config.ki * integral + config.kd * change
    multiplier = jnp.clip(state.multiplier + step, 0.0, config.limit)
    state = state._replace(
        started=jnp.ones((), bool),
        integral=integral,
        multiplier=multiplier,
        last=error,
    )
    return state, multiplier
