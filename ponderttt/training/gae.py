"""Trajectories of decisions, and the advantages, targets and losses that follow from them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ponderttt.types import masked_mean


class Trajectories(NamedTuple):
    """Decisions in documents and what they brought; `mask` is False on padding (at the end)."""

    features: Float[Array, "B N F"]
    action: Int[Array, "B N"]
    reward: Float[Array, "B N"]
    cost: Float[Array, "B N"]
    mask: Bool[Array, "B N"]

    def cleaned(self) -> "Trajectories":
        """The same with zeros in the padding, so that nothing of it reaches a gradient."""
        padding = ~self.mask
        features = jnp.where(padding[..., None], 0.0, self.features)
        action, reward, cost = (jnp.where(padding, 0, x) for x in self[1:4])
        return Trajectories(features, action, reward, cost, self.mask)


Collect = Callable[[Any, PRNGKeyArray], Trajectories]
"""Runs the policy with the given parameters (draws from `log_policy`): pure and jittable."""


def advantages(
    reward: Float[Array, "*B N"],
    value: Float[Array, "*B N"],
    mask: Bool[Array, "*B N"],
    *,
    discount: float,
    decay: float,
) -> Float[Array, "*B N"]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) along the last axis.

        delta_n = r_n + discount V_{n+1} - V_n;  A_n = delta_n + discount decay A_{n+1}

    Nothing follows a row's last real unit. Padding (`mask` False, only ever at the end of a row)
    gets zero, whatever it holds. With zero values and a decay of 1 these are discounted returns.
    """
    reward, value = (jnp.where(mask, x, 0.0) for x in (reward, value))

    def back(later, now):
        advantage, following = later
        reward, value = now
        delta = reward + discount * following - value
        advantage = delta + discount * decay * advantage
        return (advantage, value), advantage

    nothing = jnp.zeros_like(value[..., 0])
    columns = jnp.moveaxis(reward, -1, 0), jnp.moveaxis(value, -1, 0)
    _, found = jax.lax.scan(back, (nothing, nothing), columns, reverse=True)
    return jnp.moveaxis(found, 0, -1)


def moments(
    x: Float[Array, "*B"], mask: Bool[Array, "*B"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and standard deviation of the entries where `mask` holds."""
    flat, real = x.reshape(-1), mask.reshape(-1)
    mean = masked_mean(flat, real)
    return mean, jnp.sqrt(masked_mean((flat - mean) ** 2, real))


def normalise(x: Float[Array, "*B"], mask: Bool[Array, "*B"]) -> Float[Array, "*B"]:
    """`x` with mean 0 and standard deviation 1 over the entries where `mask` holds; 0 elsewhere."""
    mean, std = moments(x, mask)
    return jnp.where(mask, (x - mean) / (std + 1e-8), 0.0)


def explained_variance(
    value: Float[Array, "*B"], target: Float[Array, "*B"], mask: Bool[Array, "*B"]
) -> Float[Array, ""]:
    """`1 - Var(target - value) / Var(target)`: 1 for a perfect critic, 0 for a constant one."""
    left, total = moments(target - value, mask)[1], moments(target, mask)[1]
    return 1.0 - (left / jnp.maximum(total, 1e-8)) ** 2


class ReturnScale(NamedTuple):
    """What the critics measure returns in: (return - mean) / std; NaN until it is known."""

    mean: Float[Array, ""]
    std: Float[Array, ""]


class Target(NamedTuple):
    """What one critic is to learn, and what it said before the update; in its own units."""

    old: Float[Array, "*M"]
    new: Float[Array, "*M"]


def critic_targets(
    units: ReturnScale,
    reward: Float[Array, "B N"],
    value: Float[Array, "B N"],
    mask: Bool[Array, "B N"],
    *,
    discount: float,
    decay: float,
) -> tuple[ReturnScale, Float[Array, "B N"], Target, Float[Array, ""]]:
    """One critic's units, advantages, target and explained variance.

    Returns over a document are many times a unit's reward or cost: a critic in those units would
    need hundreds of iterations to reach them, and its gradient would drown the policy's under the
    common norm clip. It learns (return - mean) / std instead, by the first batch's statistics.
    """
    discounted = partial(advantages, mask=mask, discount=discount)
    mean, std = moments(discounted(reward, jnp.zeros_like(reward), decay=1.0), mask)
    std = jnp.where(std > 1e-6 * (1.0 + jnp.abs(mean)), std, 1.0)  # equal returns: as they are
    known = jnp.isfinite(units.mean) & jnp.isfinite(units.std)
    units = ReturnScale(jnp.where(known, units.mean, mean), jnp.where(known, units.std, std))
    predicted = units.mean + units.std * value
    advantage = discounted(reward, predicted, decay=decay)
    target = advantage + predicted
    explained = explained_variance(predicted, target, mask)
    return units, advantage, Target(value, (target - units.mean) / units.std), explained


def value_loss(
    value: Float[Array, "M"], target: Target, mask: Bool[Array, "M"], clip: float
) -> Float[Array, ""]:
    """Half the mean squared error; moving more than `clip` from the OLD value earns nothing."""
    clipped = target.old + jnp.clip(value - target.old, -clip, clip)
    worst = jnp.maximum((value - target.new) ** 2, (clipped - target.new) ** 2)
    return 0.5 * masked_mean(worst, mask)


def lagrangian_advantage(
    reward: Float[Array, "*B"],
    cost: Float[Array, "*B"],
    mask: Bool[Array, "*B"],
    multiplier: Float[Array, ""],
) -> Float[Array, "*B"]:
    """`(A_R - m A_C) / (1 + m)`, each advantage normalised over the real decisions.

    The division keeps the step's size whatever the multiplier (Stooke et al. 2020, section 5).
    """
    reward, cost = normalise(reward, mask), normalise(cost, mask)
    return (reward - multiplier * cost) / (1.0 + multiplier)
