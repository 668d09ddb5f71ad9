"""REINFORCE with a credit for each decision, a baseline for each position, the cost in the reward.

Williams (1992), with what DESIGN section 6 asks of the halting policy. Axes: B documents, N units
(tokens, where one token is a unit).
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ponderttt.checks import Count, NonNegative, Positive, Share, check
from ponderttt.models.policy_network import PolicyNetworkConfig, init_policy, log_policy
from ponderttt.training.gae import Collect, advantages


class Baseline(NamedTuple):
    """A moving average of the returns at each position, and how much of it has been filled.

    One number for all positions would make the position nearly all of an advantage: there is more
    left to lose at a document's start.
    """

    mean: Float[Array, "N"]
    weight: Float[Array, "N"]

    @classmethod
    def start(cls, units: int) -> "Baseline":
        """Before anything has been seen."""
        return cls(jnp.zeros(units), jnp.zeros(units))

    def value(self) -> Float[Array, "N"]:
        """The expected return at each position; 0 where nothing has been seen."""
        return self.mean / jnp.maximum(self.weight, 1e-8)

    def seen(
        self, returns: Float[Array, "B N"], mask: Bool[Array, "B N"], momentum: float
    ) -> "Baseline":
        """With one more batch; positions that it does not reach stay."""
        count = jnp.sum(mask, axis=0).astype(returns.dtype)
        now = jnp.sum(jnp.where(mask, returns, 0.0), axis=0) / jnp.maximum(count, 1)
        mean = momentum * self.mean + (1 - momentum) * now
        weight = momentum * self.weight + (1 - momentum)
        return Baseline(
            jnp.where(count > 0, mean, self.mean), jnp.where(count > 0, weight, self.weight)
        )


def price(
    mean_cost: Float[Array, ""], weight: Float[Array, ""], target: Float[Array, ""]
) -> Float[Array, ""]:
    """What one unit of cost is worth in reward: the slope of the penalty at the mean cost.

    The penalty is `weight * (mean - target)^2`, or `weight * mean` where `target` is NaN.
    """
    return jnp.where(jnp.isnan(target), weight, 2 * weight * (mean_cost - target))


def credit(
    reward: Float[Array, "B N"],
    cost: Float[Array, "B N"],
    mask: Bool[Array, "B N"],
    baseline: Baseline,
    *,
    price: Float[Array, ""] | float,
    gamma: float,
    momentum: float,
    normalised: bool = True,
) -> tuple[Float[Array, "B N"], Baseline]:
    """The advantage of each decision, and the baseline for the next batch.

    `G_n = sum_{i>=n} gamma^(i-n) (reward_i - price * cost_i)`, less the baseline of *earlier*
    batches at that position (the first batch is its own); `normalised` divides by the standard
    deviation. No gradient goes through it; padding gets 0.
    """
    reward, cost = jax.lax.stop_gradient((reward, cost))
    paid = reward - price * cost
    returns = advantages(paid, jnp.zeros_like(paid), mask, discount=gamma, decay=1.0)
    after = baseline.seen(returns, mask, momentum)
    known = jnp.where(baseline.weight > 0, baseline.value(), after.value())
    advantage = jnp.where(mask, returns - known[None], 0.0)
    if normalised:
        square = jnp.sum(advantage**2) / _count(mask)
        advantage = advantage * jax.lax.rsqrt(square + 1e-8)
    return jax.lax.stop_gradient((advantage, after))


def surrogate(
    log_prob: Float[Array, "B N"], advantage: Float[Array, "B N"], mask: Bool[Array, "B N"]
) -> Float[Array, ""]:
    """`-mean log pi(a_n) A_n`: its gradient is REINFORCE's, up to sign and the mean."""
    return -jnp.sum(jnp.where(mask, log_prob * advantage, 0.0)) / _count(mask)


def _count(mask: Bool[Array, "B N"]) -> Float[Array, ""]:
    return jnp.maximum(jnp.sum(mask), 1).astype(float)


@dataclass(frozen=True)
class ReinforceConfig:
    """How to learn from trajectories of decisions by features, without a critic."""

    iterations: Count = 150
    updates: Count = 8
    """Batches an iteration, one step each: REINFORCE uses none twice."""
    discount: Share = 0.99
    momentum: Share = 0.99
    rate: Positive = 3e-3
    entropy_weight: NonNegative = 0.01
    network: PolicyNetworkConfig = field(default_factory=PolicyNetworkConfig)

    def __post_init__(self):
        check(self)


class ReinforceResult(NamedTuple):
    """The last parameters and baseline; mean reward, cost and mix of actions of each iteration."""

    params: Any
    baseline: Baseline
    reward: Float[Array, "iterations"]
    cost: Float[Array, "iterations"]
    action_mix: Float[Array, "iterations A"]


def reinforce(
    key: PRNGKeyArray,
    collect: Collect,
    config: ReinforceConfig,
    *,
    units: int,
    weight: Float[Array, ""] | float = 0.0,
    budget: Float[Array, ""] | float = jnp.inf,
) -> ReinforceResult:
    """Learn from what `collect` brings; the penalty is `weight * max(0, mean cost - budget)^2`.

    Pure: to be jitted whole and vmapped over keys.
    """
    start, key = jax.random.split(key)
    params = init_policy(config.network, start)
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(config.rate))

    def objective(params, seen, advantage):
        log_probs = log_policy(config.network, params, seen.features)
        log_prob = jnp.take_along_axis(log_probs, seen.action[..., None], axis=-1)[..., 0]
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        bonus = jnp.sum(jnp.where(seen.mask, entropy, 0.0)) / jnp.sum(seen.mask).astype(float)
        return surrogate(log_prob, advantage, seen.mask) - config.entropy_weight * bonus

    def update(learner, key):
        params, state, baseline, mean_cost = learner
        seen = collect(params, key).cleaned()
        count = jnp.sum(seen.mask).astype(float)
        mean_cost = 0.9 * mean_cost + 0.1 * jnp.sum(seen.cost) / count
        over = jnp.where(jnp.isinf(budget), 0.0, jnp.maximum(mean_cost - budget, 0.0))
        advantage, baseline = credit(
            seen.reward, seen.cost, seen.mask, baseline, price=2 * weight * over,
            gamma=config.discount, momentum=config.momentum,
        )  # fmt: skip
        grads = jax.grad(objective)(params, seen, advantage)
        updates, state = optimiser.update(grads, state, params)
        metrics = (
            jnp.sum(seen.reward) / count,
            jnp.sum(seen.cost) / count,
            jnp.sum(
                jnp.where(
                    seen.mask[..., None], jax.nn.one_hot(seen.action, config.network.actions), 0
                ),
                axis=(0, 1),
            )
            / count,
        )
        return (optax.apply_updates(params, updates), state, baseline, mean_cost), metrics

    learner = (params, optimiser.init(params), Baseline.start(units), jnp.zeros(()))
    keys = jax.random.split(key, config.iterations * config.updates)
    learner, metrics = jax.lax.scan(update, learner, keys)
    means = [
        x.reshape(config.iterations, config.updates, *x.shape[1:]).mean(axis=1) for x in metrics
    ]
    return ReinforceResult(learner[0], learner[2], *means)
