"""PPO under a budget: a PID-Lagrangian on the mean cost per unit (DESIGN section 8).

In the shape of PureJaxRL: `train` is one pure function of a key, to be jitted whole and vmapped
over seeds. The caller says how to collect; nothing here knows of language models. The map:

    train(key, collect, budget)            a scan over iterations of `_iterate`, which does
      1. collect(params, key)              the caller's: `policy_trainer.collect` runs the policy in
                                           an environment -> `Trajectories` [B, N]
      2. pid.pid_step(mean cost, budget)   -> the multiplier m of this iteration
      3. gae.critic_targets, twice         for reward and cost: the critic's units (its returns are
                                           standardised by the first batch), GAE advantages A_R, A_C
                                           and what the critic is to learn
      4. gae.lagrangian_advantage          A = (A_R - m A_C) / (1 + m), each normalised
      5. `_optimise`                       a scan over epochs, in it one over minibatches:
           `ppo_loss`                      clipped surrogate of A, two clipped value losses
                                           (`gae.value_loss`), an entropy bonus
           clip of the norm, Adam          a gradient that is not finite is left out and counted
    -> PPOResult                           parameters (critics back in real units) and `History`

The network is `models.policy_network` (three trunks: logits, value, cost value), the numbers that
steer all of this are `ppo_config.PPOConfig`, those of the controller `pid.PIDConfig`.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ponderttt.errors import InputError
from ponderttt.models.policy_network import (
    apply_policy,
    init_policy,
    policy_graph,
)
from ponderttt.models.policy_network import log_policy as log_policy
from ponderttt.training.gae import Collect as Collect
from ponderttt.training.gae import (
    ReturnScale,
    Target,
    critic_targets,
    lagrangian_advantage,
    value_loss,
)
from ponderttt.training.gae import Trajectories as Trajectories
from ponderttt.training.pid import PIDState, pid_init, pid_step
from ponderttt.training.ppo_config import PPOConfig as PPOConfig
from ponderttt.types import masked_mean


class History(NamedTuple):
    """One entry an iteration. Rewards and costs are means per real unit of what was collected.

    The optimisation's own numbers are means over the iteration's updates; `value_loss` is in the
    critics' normalised units, `grad_norm` is before the clip, `skipped` counts the updates that
    were left out because their gradient was not finite.
    """

    reward: Float[Array, "*iterations"]
    cost: Float[Array, "*iterations"]
    multiplier: Float[Array, "*iterations"]
    violation: Float[Array, "*iterations"]
    explained_variance: Float[Array, "*iterations"]
    cost_explained_variance: Float[Array, "*iterations"]
    action_mix: Float[Array, "*iterations A"]
    loss: Float[Array, "*iterations"]
    value_loss: Float[Array, "*iterations"]
    entropy: Float[Array, "*iterations"]
    kl: Float[Array, "*iterations"]
    clip_share: Float[Array, "*iterations"]
    grad_norm: Float[Array, "*iterations"]
    skipped: Int[Array, "*iterations"]


class PPOResult(NamedTuple):
    """The last parameters, values in the units of reward and cost, and how they came about."""

    params: Any
    history: History


class Batch(NamedTuple):
    """Decisions as the loss wants them, with what the policy thought when it took them."""

    features: Float[Array, "*M F"]
    action: Int[Array, "*M"]
    mask: Bool[Array, "*M"]
    log_prob: Float[Array, "*M"]
    advantage: Float[Array, "*M"]
    reward: Target
    cost: Target


class Learner(NamedTuple):
    """All that an iteration hands to the next."""

    params: Any
    optimiser: Any
    pid: PIDState
    reward_scale: ReturnScale
    cost_scale: ReturnScale


def ppo_loss(
    config: PPOConfig, params: Any, batch: Batch
) -> tuple[Float[Array, ""], dict[str, jax.Array]]:
    """The clipped surrogate, both critics' losses and the entropy bonus; `(loss, metrics)`."""
    output = apply_policy(config.network, params, batch.features)
    log_probs = jax.nn.log_softmax(output.logits)
    log_prob = jnp.take_along_axis(log_probs, batch.action[:, None], axis=-1)[:, 0]
    change = log_prob - batch.log_prob
    ratio = jnp.exp(change)
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    mean = partial(masked_mean, mask=batch.mask)
    surrogate = mean(jnp.minimum(ratio * batch.advantage, clipped * batch.advantage))
    entropy = mean(-jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1))
    values = value_loss(output.value, batch.reward, batch.mask, config.clip) + value_loss(
        output.cost_value, batch.cost, batch.mask, config.clip
    )
    loss = -surrogate + config.value_weight * values - config.entropy_weight * entropy
    return loss, {
        "loss": loss,
        "value_loss": values,
        "entropy": entropy,
        "kl": mean(ratio - 1.0 - change),
        "clip_share": mean((jnp.abs(ratio - 1.0) > config.clip).astype(jnp.float32)),
    }


def _optimiser(config: PPOConfig) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.max_norm), optax.adam(config.rate, eps=1e-5)
    )


def _choose(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _optimise(
    config: PPOConfig, params: Any, optimiser: Any, batch: Batch, key: PRNGKeyArray
) -> tuple[tuple[Any, Any], dict[str, jax.Array]]:
    """Epochs of minibatches over one batch; an update without a finite gradient is left out."""

    def update(carry, part):
        params, optimiser = carry
        grad = jax.value_and_grad(partial(ppo_loss, config), has_aux=True)
        (_, metrics), grads = grad(params, part)
        norm = optax.global_norm(grads)
        updates, moved = _optimiser(config).update(grads, optimiser, params)
        good = jnp.isfinite(norm)
        carry = _choose(good, (optax.apply_updates(params, updates), moved), carry)
        return carry, metrics | {"grad_norm": norm, "skipped": ~good}

    def epoch(carry, order):
        parts = jax.tree.map(  # [M, ...] -> [minibatches, M / minibatches, ...]
            lambda x: x[order].reshape(config.minibatches, -1, *x.shape[1:]), batch
        )
        return jax.lax.scan(update, carry, parts)

    # One flat draw for all orders: XLA takes seconds to compile several, or one of more axes.
    bits = jax.random.bits(key, (config.epochs * batch.action.size,))
    orders = jnp.argsort(bits.reshape(config.epochs, -1), axis=-1)
    carry, metrics = jax.lax.scan(epoch, (params, optimiser), orders)
    skipped = jnp.sum(metrics.pop("skipped"))
    return carry, jax.tree.map(jnp.mean, metrics) | {"skipped": skipped}


def _iterate(
    config: PPOConfig,
    collect: Collect,
    budget: Float[Array, ""],
    learner: Learner,
    key: PRNGKeyArray,
) -> tuple[Learner, History]:
    """Collect, move the multiplier, judge, optimise."""
    draw, shuffle = jax.random.split(key)
    seen = collect(learner.params, draw).cleaned()
    mask = seen.mask
    if mask.size % config.minibatches:
        raise InputError(
            f"minibatches={config.minibatches} does not divide the {mask.size} decisions that an "
            "iteration collects"
        )
    mean = partial(masked_mean, mask=mask.reshape(-1))
    cost = mean(seen.cost.reshape(-1))
    # One cost that is not finite would stay in the controller for ever.
    pid = _choose(
        jnp.isfinite(cost), pid_step(config.pid, learner.pid, cost, budget)[0], learner.pid
    )

    output = apply_policy(config.network, learner.params, seen.features)
    log_probs = jax.nn.log_softmax(output.logits)
    log_prob = jnp.take_along_axis(log_probs, seen.action[..., None], axis=-1)[..., 0]
    assess = partial(critic_targets, mask=mask, discount=config.discount, decay=config.gae_decay)
    reward_scale, reward_advantage, reward_target, explained = assess(
        learner.reward_scale, seen.reward, output.value
    )
    cost_scale, cost_advantage, cost_target, cost_explained = assess(
        learner.cost_scale, seen.cost, output.cost_value
    )
    advantage = lagrangian_advantage(reward_advantage, cost_advantage, mask, pid.multiplier)
    batch = Batch(seen.features, seen.action, mask, log_prob, advantage, reward_target, cost_target)
    batch = jax.tree.map(lambda x: x.reshape(mask.size, *x.shape[2:]), batch)  # [B, N] -> [M]
    (params, optimiser), metrics = _optimise(
        config, learner.params, learner.optimiser, batch, shuffle
    )

    taken = jax.nn.one_hot(seen.action, len(config.actions.names)).reshape(mask.size, -1)
    history = History(
        reward=mean(seen.reward.reshape(-1)),
        cost=cost,
        multiplier=pid.multiplier,
        violation=(cost - budget) / budget,
        explained_variance=explained,
        cost_explained_variance=cost_explained,
        action_mix=jax.vmap(mean, in_axes=1)(taken),
        **metrics,
    )
    return Learner(params, optimiser, pid, reward_scale, cost_scale), history


def _in_real_units(config: PPOConfig, learner: Learner) -> Any:
    """The parameters, with the critics' units folded into their last layers."""
    network = nnx.merge(policy_graph(config.network), learner.params)
    both = (learner.reward_scale, learner.cost_scale)
    mean, std = jnp.stack([u.mean for u in both]), jnp.stack([u.std for u in both])
    known = jnp.isfinite(mean) & jnp.isfinite(std)  # not if every batch held a NaN
    mean, std = jnp.where(known, mean, 0.0), jnp.where(known, std, 1.0)
    network.value_kernel[...] = network.value_kernel[...] * std[:, None, None]
    network.value_bias[...] = network.value_bias[...] * std + mean
    return nnx.state(network)


@dataclass(frozen=True)
class PIDLagrangianPPO:
    """Proximal policy optimisation whose cost penalty is the output of a PID controller.

    >>> PIDLagrangianPPO(PPOConfig(budget=0.5))
    Traceback (most recent call last):
    ...
    ponderttt.types.InputError: budget 0.5 a unit cannot be met: ...
    """

    config: PPOConfig

    def train(
        self, key: PRNGKeyArray, collect: Collect, *, budget: Float[Array, ""] | None = None
    ) -> PPOResult:
        """Learn from a new network; one pure function of `key`, to be jitted and vmapped whole.

        Each iteration collects with the current parameters, moves the multiplier by the batch's
        mean cost, and takes `epochs` x `minibatches` clipped steps from there. `budget` stands in
        for the configuration's, so that one program serves many, vmapped if you like; a traced one
        is not checked.
        """
        config = self.config
        if budget is not None and not isinstance(budget, jax.core.Tracer):
            replace(config, budget=float(budget))  # refused here if it cannot be met
        limit = jnp.asarray(config.budget if budget is None else budget)
        start, loop = jax.random.split(key)
        params = init_policy(config.network, start)
        unknown = ReturnScale(jnp.full((), jnp.nan), jnp.full((), jnp.nan))
        learner = Learner(
            params, _optimiser(config).init(params), pid_init(config.pid), unknown, unknown
        )
        learner, history = jax.lax.scan(
            partial(_iterate, config, collect, limit),
            learner,
            jax.random.split(loop, config.iterations),
        )
        return PPOResult(_in_real_units(config, learner), history)
