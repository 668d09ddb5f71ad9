"""Probe environments with known answers, each isolating one way in which a learner can fail.

After the probes of rejax, on the chunk-level action space. Rows have 6 to 8 units; what stands in
their padding is absurd on purpose, so that a learner that reads it does not solve its probe.
The probes differ in arrays only: one program trains all of them, for many seeds at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ponderttt.models.policy_network import PolicyNetworkConfig, apply_policy, log_policy
from ponderttt.training.ppo import Collect, PIDLagrangianPPO, PPOConfig, PPOResult, Trajectories

DOCUMENTS, UNITS, CUES = 32, 8, 4
CONFIG = PPOConfig(iterations=150, network=PolicyNetworkConfig(features=8, hidden=32))
SLACK = 20.0  # a budget above the dearest action's cost: no constraint


class Task(NamedTuple):
    """What an action is worth under each cue, whether that is paid two units later, the budget."""

    worth: Float[np.ndarray | Array, "CUES A"]
    delayed: Bool[np.ndarray | Array, ""]
    budget: Float[np.ndarray | Array, ""]


class Probe(NamedTuple):
    """An environment, and whether a result is its known answer."""

    setting: Task
    solved: Callable[[PPOResult], Bool[Array, ""]]


def _draw(
    key: PRNGKeyArray, width: int
) -> tuple[Float[Array, "B N F"], Int[Array, "B N"], Bool[Array, "B N"]]:
    """Features (share of the row left, the cue, then noise), the cue itself, and the mask."""
    # Flat draws: XLA takes seconds to compile one of several axes.
    drawn = jax.random.uniform(key, (DOCUMENTS * UNITS * (width + 1),))
    drawn = drawn.reshape(DOCUMENTS, UNITS, width + 1)
    length = UNITS - jnp.floor(3 * drawn[:, :1, width])
    left = length - jnp.arange(UNITS, dtype=jnp.float32)[None]
    cue = jnp.floor(CUES * drawn[..., 1])
    features = 2 * drawn[..., :width] - 1
    features = features.at[..., 0].set(left / UNITS)
    features = features.at[..., 1].set(2 * cue / (CUES - 1) - 1)
    return features, cue.astype(jnp.int32), left > 0


def collector(config: PPOConfig, setting: Task) -> Collect:
    """Plays the environment; features do not depend on actions, so a batch is drawn at once."""
    costs = jnp.asarray(config.actions.costs)

    def collect(params, key):
        see, act = jax.random.split(key)
        features, cue, mask = _draw(see, config.network.features)
        log_probs = log_policy(config.network, params, features)
        noise = jax.random.gumbel(act, (log_probs.size,)).reshape(log_probs.shape)
        action = jnp.argmax(log_probs + noise, axis=-1)
        now = jnp.asarray(setting.worth)[cue, action]
        later = jnp.pad(now, ((0, 0), (2, 0)))[:, :UNITS]
        reward = jnp.where(mask, jnp.where(setting.delayed, later, now), 1e3)
        return Trajectories(features, action, reward, jnp.where(mask, costs[action], 1e3), mask)

    return collect


def train_probe(setting: Task, key: PRNGKeyArray, config: PPOConfig = CONFIG) -> PPOResult:
    """What PPO makes of a probe; pure, to be vmapped over settings and keys."""
    collect = collector(config, setting)
    return PIDLagrangianPPO(config).train(key, collect, budget=jnp.asarray(setting.budget))


def _recent(x: Float[Array, "iterations"], count: int = 20) -> Float[Array, ""]:
    return jnp.mean(x[-count:])


def _knows_the_units_left(result: PPOResult) -> Bool[Array, ""]:
    """Whether the critic is within 0.1 of the discounted number of units left (up to 7.7)."""
    features, _, mask = _draw(jax.random.key(1), CONFIG.network.features)
    left = jnp.round(features[..., 0] * UNITS)
    truth = (1 - CONFIG.discount**left) / (1 - CONFIG.discount)
    error = jnp.abs(apply_policy(CONFIG.network, result.params, features).value - truth)
    return jnp.mean(error, where=mask) < 0.1


def _follows_the_cue(result: PPOResult, least_left: int) -> Bool[Array, ""]:
    """Whether the likeliest action is the cued one in 95 % of the units where it matters."""
    features, cue, _ = _draw(jax.random.key(1), CONFIG.network.features)
    likeliest = jnp.argmax(log_policy(CONFIG.network, result.params, features), axis=-1)
    matters = features[..., 0] * UNITS > least_left - 0.5
    return jnp.mean(likeliest == cue, where=matters) > 0.95


def _spends_well(result: PPOResult) -> Bool[Array, ""]:
    """Whether the mean cost is within 5 % of 2.0, and spent where it pays most.

    UPDATE_1 under the upper two cues earns 5/12 a unit; the same spending at random earns 1/4.
    """
    close = jnp.abs(_recent(result.history.cost) - 2.0) < 0.05 * 2.0
    return close & (_recent(result.history.reward) > 0.36)


def _relaxes(result: PPOResult) -> Bool[Array, ""]:
    """Whether the multiplier is back at 0 and the best action is all that is left."""
    history = result.history
    return (history.multiplier[-1] < 1e-3) & (_recent(history.action_mix[:, 1]) > 0.95)


def _setting(worth, budget: float, delayed: bool = False) -> Task:
    table = np.broadcast_to(np.asarray(worth, np.float32), (CUES, 4))
    return Task(table, np.asarray(delayed), np.asarray(budget, np.float32))


_RISING = np.linspace(0, 1, CUES)[:, None] * np.asarray([[0.0, 1.0, 1.2, 1.4]])

PROBES: dict[str, Probe] = {
    # The same whatever is done: the critic must learn it.
    "constant reward": Probe(_setting(1.0, SLACK), _knows_the_units_left),
    # One for the action that the cue names: the policy must read one feature of eight.
    "visible reward": Probe(_setting(np.eye(4), SLACK), lambda r: _follows_the_cue(r, 1)),
    # The same, paid two units later: only advantages that look ahead can credit the decision.
    "delayed reward": Probe(_setting(np.eye(4), SLACK, True), lambda r: _follows_the_cue(r, 3)),
    # Every step pays, the more the higher the cue, but only 2.0 a unit may be spent.
    "binding budget": Probe(_setting(_RISING, 2.0), _spends_well),
    # The best action costs 3 of 4: the multiplier rises while the policy explores (5.25 a unit).
    "slack budget": Probe(_setting([0.0, 1.0, 0.5, 0.5], 4.0), _relaxes),
}
