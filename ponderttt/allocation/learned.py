"""Policies learned on the trees of a stream's training documents, and what they then do."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from ponderttt.allocation.calibration import Outcome, bisect_to_budgets, decision_budget, outcome
from ponderttt.allocation.cross_validation import folds
from ponderttt.allocation.stream import AllocationTask, Split, by_source
from ponderttt.cache import Arrays, cached, fingerprint
from ponderttt.environment.walk import TreeEnvironment
from ponderttt.errors import InputError
from ponderttt.models.policy_network import apply_policy
from ponderttt.policies.actor_critic import Account
from ponderttt.training.finite import check_finite
from ponderttt.training.pid import PIDConfig
from ponderttt.training.policy_trainer import PolicyTrainer, World
from ponderttt.training.ppo import History, PPOConfig, PPOResult
from ponderttt.types import CHUNK_ACTIONS, Episode

AROUND = (0.6, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5)
"""Its own cost curve is that of these multiples of its budget, by a price on each action."""
REACH = 10.0
"""The largest such price: what a unit of cost takes off an action's logit."""


class Learning(NamedTuple):
    """How policies are learned: how many side by side, for how long, from how much at a time."""

    seeds: int
    """Policies trained at each budget, side by side."""
    iterations: int
    """Each takes 4 epochs of PPO on one rollout."""
    rollout: int
    """Decisions collected in an iteration."""
    seed: int
    rate: float = 3e-4
    """Adam's, and beside it the noise on the features: what `choose_learning` chooses
    on the training documents of the published stream."""
    jitter: float = 1.0


class Learned(NamedTuple):
    """The policies of all seeds at one budget; leaves [S, ...]."""

    trainer: PolicyTrainer
    budget: float
    params: Any
    """Calibrated: at the budget on the validation documents."""
    history: History
    validation: Outcome
    """[S, P, B], at the multiples `AROUND` of the budget."""
    test: Outcome


def learn(
    task: AllocationTask,
    budget: float,
    config: Learning,
    *,
    without: tuple[str, ...] = (),
    pid: PIDConfig | None = None,
) -> Learned:
    """One policy a seed, trained at `budget`, then calibrated to it on validation documents.

    `without` names groups of features that are hidden from it.
    """
    # The budget is an argument of the program, not a part of it: all budgets are one compilation.
    ppo = PPOConfig(iterations=config.iterations, rate=config.rate, pid=pid or PIDConfig())
    documents = config.rollout // (task.units - 1)
    trainer = PolicyTrainer(ppo, documents=documents, jitter=config.jitter)
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    budgets = jnp.full(config.seeds, decision_budget(task, budget))
    world = World.of(task.training.environment.without_tokens().without(*without))
    result = _trained(trainer, keys, world, budgets)
    check_finite(
        result.history.reward.T, ("iteration", "seed"), of="the reward", remedy="train for less"
    )

    def expected(part: Split) -> Callable[[np.ndarray], Outcome]:
        environment = part.padded.without_tokens().without(*without)
        expect = partial(_expect, trainer, result.params, environment)
        return lambda levels: outcome(expect(_price(levels)), len(part))

    validation, test = expected(task.validation), expected(task.test)
    targets = np.tile(budget * np.asarray(AROUND), (config.seeds, 1))
    levels = bisect_to_budgets(lambda levels: validation(levels).cost.mean(axis=-1), targets)
    price = _price(levels[:, AROUND.index(1.0)])
    params = jax.vmap(trainer.with_cost_bias)(result.params, price)
    return Learned(trainer, budget, params, result.history, validation(levels), test(levels))


def _trained(trainer: PolicyTrainer, keys, world: World, budgets) -> PPOResult:
    """`trainer.train`, kept on disk: a run that was killed goes on with the next policy."""
    train = partial(trainer.train, budgets=budgets)
    treedef = jax.tree.structure(jax.eval_shape(train, keys, world))

    def compute() -> Arrays:
        leaves = jax.tree.leaves(train(keys, world))
        return {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}

    key = fingerprint(trainer, jax.random.key_data(keys), world, budgets)
    found = cached("policies", key, compute)
    return jax.tree.unflatten(treedef, [jnp.asarray(found[str(i)]) for i in range(len(found))])


def _price(levels: np.ndarray) -> Float[Array, "*S"]:
    return jnp.asarray(REACH * (1 - 2 * levels), jnp.float32)


@partial(jax.jit, static_argnums=0)
def _expect(trainer: PolicyTrainer, params, environment: TreeEnvironment, prices):
    """Expected outcome [S, P, B] of each seed's policy at each of its prices [S, P]."""
    costs = jnp.asarray(CHUNK_ACTIONS.costs)[None, None]

    def one(params, prices):
        features = jnp.asarray(environment.features)
        logits = apply_policy(trainer.config.network, params, features).logits

        def at_price(price):
            return environment.expected(jax.nn.softmax(logits - price * costs))

        return jax.vmap(at_price)(prices)

    return jax.vmap(one)(params, prices)


def choose_learning(
    task: AllocationTask,
    budget: float,
    config: Learning,
    *,
    rates: Sequence[float] = (1e-4, 3e-4, 1e-3, 3e-3),
    jitters: Sequence[float] = (0.0, 0.5, 1.0, 2.0),
) -> tuple[Learning, pd.DataFrame]:
    """`config` with the rate and jitter that lose least by twofold cross-validation; the table.

    Trained on one half of the training documents and evaluated on the other, at exactly `budget`
    there, mean over seeds; then the other way round. Validation and test documents are not touched.
    """
    part = task.training
    fold = folds(part.texts.sources)
    if len(set(fold.tolist())) < 2:
        raise InputError("one training document of each source: expected two or more, for halves")
    halves = [part.select(np.flatnonzero(fold == f)) for f in (0, 1)]
    tasks = [replace(task, training=a, validation=b, test=b) for a, b in (halves, reversed(halves))]
    rows = []
    for rate, jitter in product(rates, jitters):
        tried = config._replace(rate=rate, jitter=jitter)
        for f, half in enumerate(tasks):
            loss = learn(half, budget, tried).test.loss[:, AROUND.index(1.0)].mean(axis=0)
            rows.append((rate, jitter, f, by_source(loss, half.test.texts)))
    table = pd.DataFrame(rows, columns=["rate", "jitter", "fold", "loss"])
    means = table.groupby(["rate", "jitter"], as_index=False)["loss"].mean()
    best = means.loc[means["loss"].idxmin()]
    chosen = (table["rate"] == best["rate"]) & (table["jitter"] == best["jitter"])
    chosen_learning = config._replace(rate=float(best["rate"]), jitter=float(best["jitter"]))
    return chosen_learning, table.assign(chosen=chosen)


def run_with_hard_budget(learned: Learned, part: Split) -> Episode:
    """The stream under each seed's policy with a hard account: leaves [S, B, N].

    Every unit pays in the budget, and nothing is taken that the account cannot pay.
    """
    return _run_with_hard_budget(learned.trainer, learned.params, part.environment, learned.budget)


@partial(jax.jit, static_argnums=0)
def _run_with_hard_budget(trainer, params, environment: TreeEnvironment, budget) -> Episode:
    def one(params):
        policy = trainer.act(params, Account.open(budget))
        return environment.run(policy, key=jax.random.key(2))

    return jax.vmap(one)(params)
