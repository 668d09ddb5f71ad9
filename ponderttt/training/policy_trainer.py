"""Learning to allocate: PPO on documents whose states are cached, all seeds in one program.

An episode is one document. The reward of the decision on unit n is what unit n + 1 then loses less
than it would have, had the document never been learned from; the last unit earns nothing.
Axes: S seeds; of a pool of documents B are read in an iteration.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key, PRNGKeyArray

from ponderttt.checks import Count, NonNegative, check
from ponderttt.environment.rollout import rollout
from ponderttt.environment.tree import Tree, enumerate_allocations, path_nodes, units_of
from ponderttt.environment.walk import node_units, walk
from ponderttt.errors import InputError
from ponderttt.inner.descent import Dispatch
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.policy_network import policy_graph
from ponderttt.policies.actor_critic import Account, ActorCritic
from ponderttt.policies.features import FeatureExtractor
from ponderttt.training.gae import Trajectories
from ponderttt.training.ppo import PIDLagrangianPPO, PPOConfig, PPOResult
from ponderttt.types import Documents


class World(NamedTuple):
    """What decisions are taken in: a model, an adapter and documents to draw from."""

    lm: TransformerLM
    adapter: Adapter
    extractor: FeatureExtractor
    documents: Documents
    hidden: Float[Array, "pool N U D"]
    described: Float[Array, "pool N described"]
    skip_nll: Float[Array, "pool N"]
    """Loss of each unit where the document is never learned from."""


class TreeWorld(NamedTuple):
    """Documents that have been read in every way: decisions in them cost nothing but themselves."""

    tree: Tree
    features: Float[Array, "pool E F"]


@dataclass(frozen=True)
class PolicyTrainer:
    """Trains one policy a key, all in one jitted program; nothing is stepped from Python.

    `switch` runs the steps that are taken and no others, one document and one seed after another;
    `masked` reads them side by side and pays the most steps everywhere: for accelerators.

    >>> PolicyTrainer(PPOConfig(iterations=3, budget=3.125)).documents
    16
    """

    config: PPOConfig
    documents: Count = 16
    """Documents an iteration, drawn without replacement; of trees, in turns."""
    dispatch: Dispatch = "switch"
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
        world: World | TreeWorld,
        *,
        budgets: Float[Array, "S"] | None = None,
        tick: Callable[[], None] | None = None,
    ) -> PPOResult:
        """Policies for `keys` [S], leaves [S, ...]; `budgets` stand in for the configuration's.

        `tick` is called once for each rollout that has been collected. In a tree nothing is decided
        about the last unit: budgets are those of the units before it.
        """
        count = 0 if isinstance(world, TreeWorld) else world.documents.tokens.shape[0]
        if self.documents > count > 0:
            raise InputError(
                f"{self.documents} documents an iteration: expected at most the {count} there are"
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
    from_tree = isinstance(world, TreeWorld)

    def read(params, draw, world):
        if tick is not None:
            jax.debug.callback(tick)
        return (collect_from_tree if from_tree else collect)(trainer, params, draw, world)

    if trainer.dispatch == "switch" and not from_tree:
        # A vmapped switch would run every branch: seeds take turns at reading, and only there.
        read = jax.custom_batching.sequential_vmap(read)

    def one(key, budget):
        return PIDLagrangianPPO(trainer.config).train(
            key, lambda params, draw: read(params, draw, world), budget=budget
        )

    return jax.vmap(one)(keys, budgets)


def collect(trainer: PolicyTrainer, params: Any, key: PRNGKeyArray, world: World) -> Trajectories:
    """Some documents read by the policy with these parameters."""
    draw, read = jax.random.split(key)
    count = world.documents.tokens.shape[0]
    index = jax.random.permutation(draw, count)[: trainer.documents]
    episode = rollout(
        world.lm, world.adapter, trainer.act(params), world.documents.select(index),
        key=read, dispatch=trainer.dispatch, hidden=world.hidden[index],
        extractor=world.extractor, described=world.described[index],
    )  # fmt: skip
    gain = world.skip_nll[index][:, 1:] - episode.nll[:, 1:]
    return Trajectories(
        features=episode.features,
        action=episode.action,
        reward=jnp.pad(gain, ((0, 0), (0, 1))),
        cost=episode.cost,
        mask=jnp.any(episode.mask, axis=-1),
    )


def collect_from_tree(
    trainer: PolicyTrainer, params: Any, key: PRNGKeyArray, world: TreeWorld
) -> Trajectories:
    """Some documents walked through by the policy with these parameters; units with a decision."""
    draw, read, noise = jax.random.split(key, 3)
    count = world.features.shape[0]
    turns = jax.random.split(draw, -(-trainer.documents // count))
    order = jnp.concatenate([jax.random.permutation(turn, count) for turn in turns])
    tree, features = jax.tree.map(lambda x: x[order[: trainer.documents]], tuple(world))
    if trainer.jitter:
        # One draw a unit is enough, for one of its nodes is met; drawn flat, for several axes
        # compile slowly on a CPU.
        unit = node_units(units_of(tree))
        shape = (trainer.documents, unit[-1] + 1, features.shape[-1])
        flat = jax.random.normal(noise, (math.prod(shape),))
        features = features + trainer.jitter * flat.reshape(shape)[:, unit]
    episode = walk(tree, trainer.act(params), key=read, features=features)
    never = path_nodes(enumerate_allocations(units_of(tree))[:1])[0]
    reward = tree.nll[:, never[1:]] - episode.nll[:, 1:]
    return Trajectories(
        episode.features[:, :-1], episode.action[:, :-1], reward, episode.cost[:, :-1],
        jnp.ones(reward.shape, bool),
    )  # fmt: skip
