"""The gating experiment: signals against the true gain, and gates at equal cost."""

import dataclasses
from collections.abc import Callable

import pandas as pd

from ponderttt.allocation import equal_cost
from ponderttt.allocation.candidates import SIGNALS, calibrate_all
from ponderttt.allocation.stream import AllocationTask
from ponderttt.allocation.unit_costs import unit_costs
from ponderttt.experiments.gating import tables
from ponderttt.experiments.gating.config import GatingConfig
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.result import Result


def run(config: GatingConfig) -> Result:
    """Calibrate every signal at every cost, on every stream; see `tables` for what comes back."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    tasks = list(config.tasks(lm))

    def each(make: Callable[[AllocationTask], pd.DataFrame]) -> pd.DataFrame:
        return pd.concat([make(task) for task in tasks], ignore_index=True)

    found = {task.stream: calibrate_all(task, SIGNALS) for task in tasks}
    curves = {stream: equal_cost.curves(tried) for stream, tried in found.items()}
    documents = each(
        lambda s: equal_cost.documents(
            s, equal_cost.interpolate(curves[s.stream], config.budgets), curves[s.stream]["control"]
        )
    )
    result = Result(
        name="gating",
        config=dataclasses.asdict(config),
        tables={
            "points": each(lambda s: equal_cost.points(found[s.stream], s)),
            "frontier": each(equal_cost.frontier),
            "documents": documents,
            "signals": each(lambda s: tables.signals(s, seed=config.seed)),
            "calibration": each(tables.calibration),
            "drift": each(tables.drift),
            "unit_costs": unit_costs(lm, tasks[0]),
            "tuning": each(lambda s: s.tuned.assign(stream=s.stream)),
        },
        scalars={
            "test_documents": equal_cost.num_documents(documents),
            "model": lm.name,
            "fingerprint": lm.fingerprint,
            "dtype": lm.dtype,
        },
        meta={"sources": {task.stream: task.test.texts.record for task in tasks}},
    )
    return derive(result)


def derive(result: Result) -> Result:
    """`result` with the tables that follow from its others made anew, as from a record."""
    gaps = equal_cost.gaps(result.tables["documents"], seed=result.config["seed"])
    return dataclasses.replace(result, tables=result.tables | {"gaps": gaps})
