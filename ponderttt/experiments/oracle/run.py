"""The oracle experiment: the best of all allocations, beside the best uninformed control."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from ponderttt.allocation import oracle
from ponderttt.allocation.calibration import Calibrated, Outcome, evaluate
from ponderttt.allocation.equal_cost import Curve, num_documents
from ponderttt.allocation.stream import AllocationTask
from ponderttt.allocation.uninformed import uninformed
from ponderttt.environment.tree import path_nodes
from ponderttt.experiments.oracle import tables
from ponderttt.experiments.oracle.config import OracleConfig
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import UniformPolicy
from ponderttt.result import Result
from ponderttt.types import CHUNK_ACTIONS

PRICES = (0.0, *np.geomspace(1e-4, 0.1, 31).tolist(), 100.0)
"""Nats that a unit of cost is worth to the search one step ahead: from everything to nothing."""


class Searched(NamedTuple):
    """One stream: its setting, and what is known of its test documents."""

    task: AllocationTask
    fixed: dict[str, Outcome]
    found: oracle.Found
    ahead: Curve
    """The search one step ahead, one price for all documents."""
    gains: np.ndarray
    """[B, N - 1, A]: what each action gains on the next unit where every unit takes UPDATE_1."""
    signals: np.ndarray
    """[B, N - 1, F]: the features there."""
    controls: dict[float, list[Calibrated]]
    """What was tried at each budget, the chosen one first."""


def run(config: OracleConfig) -> Result:
    """Read every stream's test documents in every way; see `tables` for what comes back."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    searched = [_search(task, config) for task in config.tasks(lm)]

    def each(make: Callable[[Searched], pd.DataFrame]) -> pd.DataFrame:
        return pd.concat([make(one) for one in searched], ignore_index=True)

    budgets, seed = config.budgets, config.seed
    documents = each(lambda one: tables.documents(one, budgets))
    return Result(
        name="oracle",
        config=dataclasses.asdict(config),
        tables={
            "documents": documents,
            "available": tables.available(documents, seed=seed),
            "frontier": each(tables.frontier),
            "fixed": each(lambda one: tables.fixed(one, seed=seed)),
            "allocations": each(lambda one: tables.allocations(one, budgets)),
            "correlations": each(lambda one: tables.correlations(one, budgets, seed=seed)),
            "one_step": each(lambda one: tables.one_step(one, budgets)),
            "controls": each(tables.controls),
            "tuning": each(lambda one: one.task.tuned.assign(stream=one.task.stream)),
        },
        scalars={
            "test_documents": num_documents(documents),
            "allocations": int(searched[0].found.loss.shape[1]),
            "model": lm.name,
            "fingerprint": lm.fingerprint,
            "dtype": lm.dtype,
        },
        meta={"sources": {one.task.stream: one.task.test.texts.record for one in searched}},
    )


def _search(task: AllocationTask, config: OracleConfig) -> Searched:
    tree = task.test.tree
    fixed = {name: evaluate(task.test, UniformPolicy(name)) for name in CHUNK_ACTIONS.names}
    tried = uninformed(task, config.budgets)
    controls = {b: [each for each in tried if each.budget == b] for b in config.budgets}
    # The path on which every unit takes UPDATE_1.
    update = CHUNK_ACTIONS.position("UPDATE_1")
    nodes = path_nodes(np.full(task.units, update))[:-1]
    features = task.features(task.test)
    greedy = oracle.one_step(tree, PRICES)
    taken = np.asarray(CHUNK_ACTIONS.steps)[np.asarray(greedy.action)].sum(axis=-1)
    ahead = Curve(*(np.asarray(x).T / task.units for x in (greedy.loss, greedy.cost, taken)))
    return Searched(
        task, fixed, oracle.exhaustive(tree), ahead,
        oracle.step_gains(tree)[:, nodes], np.asarray(features[:, jnp.asarray(nodes)]), controls,
    )  # fmt: skip
