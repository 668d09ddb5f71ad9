"""Policies that have not seen the text: the controls that every other one is compared with."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from ponderttt.allocation.calibration import (
    CURVE,
    Calibrated,
    Outcome,
    best_first,
    decision_budget,
    expected_outcome,
    uniform_gains,
)
from ponderttt.allocation.stream import AllocationTask, Split
from ponderttt.policies import SchedulePolicy, best_mix
from ponderttt.types import CHUNK_ACTIONS

UPDATES = CHUNK_ACTIONS.names[1:]


def uninformed(task: AllocationTask, budgets: Sequence[float] = CURVE) -> list[Calibrated]:
    """What can be decided without looking at the text, at a cost that is known in advance.

    The best schedule mixes whole allocations, the same for every document, by the linear program on
    the validation documents: nothing uninformed loses less on those. The best mix draws each unit's
    action alike, and "first" updates early; they are shown beside it. The one with the lowest loss
    on the validation documents is the yardstick.
    """
    gains, found, units = uniform_gains(task.validation), [], task.units - 1
    parts = (task.validation, task.test)
    for budget, scheduled in zip(budgets, _scheduled(parts, budgets), strict=True):
        each = decision_budget(task, budget)
        tried = {"best mix": np.tile(best_mix(gains, each), (units, 1))}
        for name, cost in zip(UPDATES, CHUNK_ACTIONS.costs[1:], strict=True):
            if cost >= each:
                first = SchedulePolicy.first(name, each, units)
                tried[f"{name} first"] = np.asarray(first.probabilities)
        for name, table in tried.items():
            found.append(
                Calibrated(
                    "control", name, budget, *(expected_outcome(part, table) for part in parts)
                )
            )
        found.append(Calibrated("control", "best schedule", budget, *scheduled))
    return best_first(task, found)


def _scheduled(
    parts: tuple[Split, Split], budgets: Sequence[float], *, by_kind: bool = False
) -> Iterator[list[Outcome]]:
    """The mixture of allocations with the least loss on the first part, on both, for each budget.

    One for all documents, or one for each kind of text, which costs less where updating gains less.
    """
    found = [part.environment.allocations() for part in parts]
    units = found[0].action.shape[-1]
    kinds = pd.Series(parts[0].texts.sources)
    loss = pd.DataFrame(np.asarray(found[0].loss) / units).groupby(kinds, sort=False).mean()
    groups = [
        loss.index.get_indexer(pd.Index(part.texts.sources)) if by_kind else [0] * len(part)
        for part in parts
    ]
    if not by_kind:
        loss = loss.mean().to_frame().T
    costs = np.asarray(found[0].cost)[0] / units
    steps = np.asarray(CHUNK_ACTIONS.steps)[np.asarray(found[0].action[0])].mean(axis=-1)
    num_groups, num_allocations = loss.shape
    each = np.kron(np.eye(num_groups), np.ones(num_allocations))
    sums = np.vstack([each, np.tile(costs, num_groups) / num_groups])
    for budget in budgets:
        solution = linprog(
            loss.to_numpy().ravel(),
            A_eq=sums,
            b_eq=[*np.ones(num_groups), budget],
            bounds=(0.0, 1.0),
        )
        share = solution.x.reshape(num_groups, num_allocations)
        yield [
            Outcome(
                np.sum(np.asarray(f.loss) / units * share[g], axis=1),
                (share @ costs)[g],
                (share @ steps)[g],
            )
            for f, g in zip(found, groups, strict=True)
        ]


def by_kind(task: AllocationTask, budgets: Sequence[float] = CURVE) -> list[Calibrated]:
    """A schedule for each kind of text: what the name of a file tells, and nothing else.

    None where the test documents are of other kinds than the validation documents, or all of one.
    """
    parts = (task.validation, task.test)
    kinds = [set(part.texts.sources) for part in parts]
    if kinds[0] != kinds[1] or len(kinds[0]) == 1:
        return []
    return [
        Calibrated("kind of text", "schedule", budget, *outcomes)
        for budget, outcomes in zip(budgets, _scheduled(parts, budgets, by_kind=True), strict=True)
    ]
