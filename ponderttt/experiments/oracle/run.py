"""The oracle experiment: the best of all allocations, beside the best uninformed control."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from ponderttt.allocation import equal_cost, oracle
from ponderttt.allocation.calibration import Calibrated, Outcome, uniform_outcomes
from ponderttt.allocation.candidates import decision_episode
from ponderttt.allocation.equal_cost import Curve, num_documents
from ponderttt.allocation.stream import AllocationTask
from ponderttt.allocation.uninformed import uninformed
from ponderttt.environment.protocol import Allocations
from ponderttt.errors import InputError
from ponderttt.experiments.oracle import tables
from ponderttt.experiments.oracle.config import OracleConfig
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.result import Result
from ponderttt.types import CHUNK_ACTIONS

PRICES = (0.0, *np.geomspace(1e-4, 0.1, 31).tolist(), 100.0)
"""Nats that a unit of cost is worth to the search one step ahead: from everything to nothing."""


class Searched(NamedTuple):
    """One stream: its task, and what is known of its test documents."""

    task: AllocationTask
    fixed: dict[str, Outcome]
    allocations: Allocations
    ahead: Curve
    """The search one step ahead, one price for all documents."""
    gains: np.ndarray
    """[B, N - 1, A]: what each action gains on the next unit where every unit takes UPDATE_1."""
    signals: np.ndarray
    """[B, N - 1, F]: the features there."""
    controls: list[Calibrated]
    """What was tried at each cost of the curve, the chosen one first."""


def run(config: OracleConfig) -> Result:
    """Evaluate all allocations of every stream's test documents; see `tables` for the outcome."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    searched = [_search(task) for task in config.tasks(lm)]

    def each(make: Callable[[Searched], pd.DataFrame]) -> pd.DataFrame:
        return pd.concat([make(one) for one in searched], ignore_index=True)

    budgets, seed = config.budgets, config.seed
    documents = each(lambda one: tables.documents(one, budgets))
    result = Result(
        name="oracle",
        config=dataclasses.asdict(config),
        tables={
            "documents": documents,
            "frontier": each(tables.frontier),
            "fixed": each(lambda one: tables.fixed(one, seed=seed)),
            "allocations": each(lambda one: tables.allocations(one, budgets)),
            "correlations": each(lambda one: tables.correlations(one, budgets, seed=seed)),
            "one_step": each(lambda one: tables.one_step(one, budgets)),
            "controls": each(lambda one: equal_cost.points(one.controls, one.task)),
            "tuning": each(lambda one: one.task.tuned.assign(stream=one.task.stream)),
        },
        scalars={
            "test_documents": num_documents(documents),
            "allocations": int(searched[0].allocations.loss.shape[1]),
            "model": lm.name,
            "fingerprint": lm.fingerprint,
            "dtype": lm.dtype,
        },
        meta={"sources": {one.task.stream: one.task.test.texts.record for one in searched}},
    )
    return derive(result)


def derive(result: Result) -> Result:
    """`result` with the tables that follow from its others made anew, as from a record."""
    found = result.tables
    if "priced" not in found["documents"]:
        raise InputError(
            "the oracle's record holds no losses at equal cost (`priced`): it is from an older "
            "version, run its notebook again"
        )
    made = tables.available(found["documents"], found["controls"], seed=result.config["seed"])
    return dataclasses.replace(result, tables=found | {"available": made})


def _search(task: AllocationTask) -> Searched:
    environment = task.test.environment
    fixed = uniform_outcomes(task.test)
    greedy = oracle.one_step(environment, PRICES)
    taken = np.asarray(CHUNK_ACTIONS.steps)[np.asarray(greedy.action)].sum(axis=-1)
    ahead = Curve(*(np.asarray(x).T / task.units for x in (greedy.loss, greedy.cost, taken)))
    updated = decision_episode(task.test)
    return Searched(
        task, fixed, environment.allocations(), ahead,
        environment.counterfactuals(updated), np.asarray(updated.features), uninformed(task),
    )  # fmt: skip
