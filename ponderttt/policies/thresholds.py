"""Heuristics: a signal of the unit just scored against thresholds calibrated to a mix of actions.

The same thresholds for every batch: nothing of the text being read goes into them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ponderttt import pytree
from ponderttt.errors import InputError
from ponderttt.policies.policy import Memoryless, decided
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Decision, Episode, Observation, masked_mean

DEFAULT_MIX = (0.3, 0.4, 0.2, 0.1)
"""Shares of the actions, cheapest first."""


def percentile_thresholds(
    signal: Sequence[float] | Float[np.ndarray, "*B"], mix: Sequence[float] | Float[np.ndarray, "A"]
) -> Float[np.ndarray, "thresholds"]:
    """The values that cut `signal` into shares of `mix`; units above the i-th take action i + 1.

    `signal` are those of validation units. An empty signal, one that is not finite, and a mix that
    is no distribution are an `InputError`.

    >>> percentile_thresholds([1.0, 2.0, 3.0, 4.0, 5.0], (0.5, 0.5))
    array([3.])
    """
    values, shares = np.asarray(signal, float).reshape(-1), np.asarray(mix, float)
    if not values.size:
        raise InputError("no signal to calibrate on: expected one or more validation units")
    if not np.isfinite(values).all():
        raise InputError("the signal to calibrate on is not finite everywhere")
    if shares.ndim != 1 or len(shares) < 2 or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise InputError(f"the target mix {list(mix)} is not a distribution: expected a sum of 1")
    return np.quantile(values, np.clip(np.cumsum(shares)[:-1], 0, 1))


@dataclass(frozen=True)
class ThresholdPolicy(Memoryless):
    """The action whose band between `thresholds` [A - 1] (ascending) the signal lies in."""

    thresholds: Float[Array | np.ndarray, "thresholds"]
    actions: ActionSpace = CHUNK_ACTIONS

    @staticmethod
    def signal(seen: Observation) -> Float[Array, ""]:
        """What is compared; larger means more steps."""
        raise NotImplementedError

    @staticmethod
    def of_episode(episode: Episode) -> Float[Array | np.ndarray, "B N"]:
        """The same signal of every unit of what was read."""
        raise NotImplementedError

    @classmethod
    def calibrate(
        cls,
        episode: Episode,
        mix: Sequence[float] | Float[np.ndarray, "A"] = DEFAULT_MIX,
        actions: ActionSpace = CHUNK_ACTIONS,
    ) -> "ThresholdPolicy":
        """Thresholds that give `mix` on the (validation) documents of `episode`."""
        if len(mix) != len(actions.names):
            raise InputError(
                f"the target mix has {len(mix)} shares: expected {len(actions.names)}, one for "
                f"each of {', '.join(actions.names)}"
            )
        real = np.asarray(episode.mask).any(axis=-1)
        values = np.asarray(cls.of_episode(episode))[real]
        return cls(percentile_thresholds(values, mix).astype(np.float32), actions)

    def act(self, state, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        above = self.signal(observation) > jnp.asarray(self.thresholds)
        return decided(jnp.sum(above)), state


class EntropyBasedPolicy(ThresholdPolicy):
    """By the mean entropy of the unit's predictions.

    >>> EntropyBasedPolicy(jnp.asarray([2.0, 3.0, 4.0])).needs
    ('entropy',)
    """

    @property
    def needs(self) -> tuple[str, ...]:
        return ("entropy",)

    @staticmethod
    def signal(seen: Observation) -> Float[Array, ""]:
        return seen.entropy

    @staticmethod
    def of_episode(episode: Episode) -> Float[Array | np.ndarray, "B N"]:
        return episode.entropy


class LossBasedPolicy(ThresholdPolicy):
    """By the unit's mean loss.

    >>> LossBasedPolicy(jnp.asarray([2.0, 3.0, 4.0])).needs
    ()
    """

    @staticmethod
    def signal(seen: Observation) -> Float[Array, ""]:
        return seen.nll

    @staticmethod
    def of_episode(episode: Episode) -> Float[Array | np.ndarray, "B N"]:
        return episode.nll


class GradientNormBasedPolicy(ThresholdPolicy):
    """By the norm of the inner gradient, which costs a backward pass on every unit.

    >>> GradientNormBasedPolicy(jnp.asarray([2.0, 3.0, 4.0])).needs
    ('gradient_norm',)
    """

    @property
    def needs(self) -> tuple[str, ...]:
        return ("gradient_norm",)

    @staticmethod
    def signal(seen: Observation) -> Float[Array, ""]:
        return seen.gradient_norm

    @staticmethod
    def of_episode(episode: Episode) -> Float[Array | np.ndarray, "B N"]:
        return episode.gradient_norm


class PerplexityBasedPolicy(ThresholdPolicy):
    """By local perplexity: that of the last quarter of the unit.

    Of the whole unit it would decide as the loss does, whose exponential it is.

    >>> PerplexityBasedPolicy(jnp.asarray([8.0, 20.0, 55.0])).max_steps
    4
    """

    @staticmethod
    def signal(seen: Observation) -> Float[Array, ""]:
        return _local_perplexity(seen.token_nll, seen.mask)

    @staticmethod
    def of_episode(episode: Episode) -> Float[Array | np.ndarray, "B N"]:
        return _local_perplexity(episode.token_nll, episode.mask)


@jax.jit
def _local_perplexity(token_nll, mask):
    last = -(-token_nll.shape[-1] // 4)
    return jnp.exp(masked_mean(token_nll[..., -last:], mask[..., -last:]))


HEURISTICS = {
    "entropy": EntropyBasedPolicy,
    "loss": LossBasedPolicy,
    "gradient_norm": GradientNormBasedPolicy,
    "perplexity": PerplexityBasedPolicy,
}
for _kind in HEURISTICS.values():
    pytree.register(_kind, meta_fields=["actions"])
