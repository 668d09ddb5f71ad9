"""Learning to allocate: PPO on documents whose states are cached, all seeds in one program.

An episode is one document. The reward of the decision on unit n is what unit n + 1 then loses less
than it would have, had the document never been learned from; the last unit earns nothing.
Axes: S seeds; of a pool of documents B are read in an iteration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key, PRNGKeyArray

from ponderttt.checks import Count, NonNegative, check
from ponderttt.environment.text import LiveText
from ponderttt.environment.walk import TreeEnvironment
from ponderttt.errors import InputError
from ponderttt.models.policy_network import policy_graph
from ponderttt.policies import UniformPolicy
from ponderttt.policies.actor_critic import Account, ActorCritic
from ponderttt.training.gae import Trajectories
from ponderttt.training.ppo import PIDLagrangianPPO, PPOConfig, PPOResult


class World(NamedTuple):
    """What decisions are taken in, and what the same documents lose where nothing is learned."""

    environment: LiveText | TreeEnvironment
    skip_nll: Float[Array, "pool N"]

    @classmethod
    def of(cls, environment: LiveText | TreeEnvironment) -> "World":
        """With the losses of reading all documents without an update."""
        return cls(environment, environment.run(UniformPolicy("SKIP"), key=jax.random.key(0)).nll)


@dataclass(frozen=True)
class PolicyTrainer:
    """Trains one policy a key, all in one jitted program; nothing is stepped from Python.

    Live text dispatched by `switch` runs the steps that are taken and no others, one document and
    one seed after another; `masked` reads them side by side, pays the most steps everywhere, and is
    for accelerators.

    >>> PolicyTrainer(PPOConfig(iterations=3, budget=3.125)).documents
    16
    """

    config: PPOConfig
    documents: Count = 16
    """Documents an iteration, drawn without replacement; from trees, round robin."""
    jitter: NonNegative = 0.0
    """Standard deviation of the noise on the features that are seen in trees while training.

    A few dozen documents that are met again and again can be told apart by their features and
    learned by heart; jittered, only what similar features have in common can be learned.
    """

    def __post_init__(self):
        check(self)

    def train(
        self,
        keys: Key[Array, "S"],
        world: World,
        *,
        budgets: Float[Array, "S"] | None = None,
        tick: Callable[[], None] | None = None,
    ) -> PPOResult:
        """Policies for `keys` [S], leaves [S, ...]; `budgets` stand in for the configuration's.

        `tick` is called once for each rollout that has been collected. In a tree nothing is decided
        about the last unit: budgets are those of the units before it. More documents an iteration
        than live text has, or jitter on it, are an `InputError`.
        """
        count = world.environment.num_documents
        if isinstance(world.environment, LiveText):
            if self.documents > count:
                raise InputError(
                    f"{self.documents} documents an iteration: expected at most the {count} there "
                    "are"
                )
            if self.jitter:
                raise InputError(
                    f"jitter is {self.jitter:g} on live text, whose features are made while it is "
                    "read: expected 0, or a tree"
                )
        if budgets is None:
            budgets = jnp.full(keys.shape, self.config.budget)
        return _train(self, tick, keys, world, budgets)

    def policy(self, result: PPOResult, seed: int) -> ActorCritic:
        """The policy of one seed, without an account."""
        return self.act(jax.tree.map(lambda x: x[seed], result.params))

    def act(self, params: Any, account: Account | None = None) -> ActorCritic:
        """The policy with these parameters."""
        return ActorCritic(params, self.config.network, account, self.config.actions)

    def with_cost_bias(self, params: Any, price: Float[Array, ""]) -> Any:
        """`params` with each action's logit lowered by `price` times its cost.

        What calibrates a trained policy to a budget on documents that it was not trained on.
        """
        network = nnx.merge(policy_graph(self.config.network), params)
        costs = jnp.asarray(self.config.actions.costs)
        network.logit_bias[...] = network.logit_bias[...] - price * costs
        return nnx.state(network)


@partial(jax.jit, static_argnums=(0, 1))
def _train(trainer: PolicyTrainer, tick, keys, world, budgets) -> PPOResult:
    def read(params, draw, world):
        if tick is not None:
            jax.debug.callback(tick)
        return collect(trainer, params, draw, world)

    environment = world.environment
    if isinstance(environment, LiveText) and environment.dispatch == "switch":
        # A vmapped switch would run every branch: seeds take turns at reading, and only there.
        read = jax.custom_batching.sequential_vmap(read)

    def one(key, budget):
        return PIDLagrangianPPO(trainer.config).train(
            key, lambda params, draw: read(params, draw, world), budget=budget
        )

    return jax.vmap(one)(keys, budgets)


def collect(trainer: PolicyTrainer, params: Any, key: PRNGKeyArray, world: World) -> Trajectories:
    """Some documents under the policy with these parameters: the decisions that bind."""
    draw, act, noise = jax.random.split(key, 3)
    count = world.environment.num_documents
    turns = jax.random.split(draw, -(-trainer.documents // count))
    order = jnp.concatenate([jax.random.permutation(turn, count) for turn in turns])
    index = order[: trainer.documents]
    environment = world.environment.select(index)
    if trainer.jitter and isinstance(environment, TreeEnvironment):
        environment = environment.with_noise(noise, trainer.jitter)
    episode = environment.run(trainer.act(params), key=act)
    gain = jnp.pad(world.skip_nll[index][:, 1:] - episode.nll[:, 1:], ((0, 0), (0, 1)))
    binding = slice(None, environment.num_decisions)
    return Trajectories(
        episode.features[:, binding], episode.action[:, binding], gain[:, binding],
        episode.cost[:, binding], jnp.any(episode.mask, axis=-1)[:, binding],
    )  # fmt: skip
