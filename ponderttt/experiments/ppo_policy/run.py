"""The ppo_policy experiment: learned policies beside gate, bandit and control at equal cost."""

import dataclasses

import pandas as pd

from ponderttt.allocation import equal_cost
from ponderttt.allocation.candidates import BANDIT, GATE, calibrate_all, ridge_table
from ponderttt.allocation.learned import Learned, learn
from ponderttt.allocation.stream import AllocationTask
from ponderttt.allocation.unit_costs import unit_costs
from ponderttt.experiments.ppo_policy import tables
from ponderttt.experiments.ppo_policy.config import PPOPolicyConfig
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies.features import GROUPS
from ponderttt.progress import track
from ponderttt.result import Result
from ponderttt.training.pid import PIDConfig

PEERS = (GATE, BANDIT)


def run(config: PPOPolicyConfig) -> Result:
    """Learn at every budget on every stream; see `tables` for what comes back."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    tasks = list(config.tasks(lm))
    learned = {s.stream: _learn_all(s, config) for s in tasks}
    found = {s.stream: calibrate_all(s, PEERS) for s in tasks}
    main = tasks[0]
    middle = config.budgets[len(config.budgets) // 2]
    velocity = learn(main, middle, config.learning, pid=PIDConfig(form="velocity"))
    ablated = {
        group: learn(main, middle, config.learning, without=(group,))
        for group in track(list(GROUPS), f"{main.stream}: ablations", len(GROUPS))
    }
    curves = {s.stream: equal_cost.curves(found[s.stream]) for s in tasks}
    each_document = []
    for s in tasks:
        ppo = {each.budget: tables.mean_outcome(each) for each in learned[s.stream]}
        at = equal_cost.interpolate(curves[s.stream], config.budgets) | {"PPO": ppo}
        each_document.append(equal_cost.documents(s, at, curves[s.stream]["control"]))
    documents = pd.concat(each_document, ignore_index=True)
    every = [(s, each) for s in tasks for each in learned[s.stream]]
    history = pd.concat(
        [tables.history(s, each, "positional") for s, each in every]
        + [tables.history(main, velocity, "velocity")]
    )
    result = Result(
        name="ppo_policy",
        config=dataclasses.asdict(config),
        tables={
            "points": pd.concat([equal_cost.points(found[s.stream], s) for s in tasks]),
            "learned": pd.concat([tables.learned(s, each) for s, each in every]),
            "frontier": pd.concat([equal_cost.frontier(s) for s in tasks]),
            "documents": documents,
            "ablated": tables.ablated(main, ablated, curves[main.stream]["control"]),
            "seeds": pd.concat([tables.seeds(s, each, documents) for s, each in every]),
            "history": tables.thinned(history),
            "spread": tables.spread(history),
            "strip": tables.strip(main, _at(learned[main.stream], middle), lm.tokenizer_name),
            "ridge": pd.concat([ridge_table(s) for s in tasks], ignore_index=True),
            "unit_costs": unit_costs(lm, tasks[0]),
            "tuning": pd.concat([s.tuned.assign(stream=s.stream) for s in tasks]),
        },
        scalars={
            "test_documents": equal_cost.num_documents(documents),
            "model": lm.name,
            "fingerprint": lm.fingerprint,
            "dtype": lm.dtype,
        },
        meta={"sources": {s.stream: s.test.texts.record for s in tasks}},
    )
    return derive(result)


def derive(result: Result) -> Result:
    """`result` with what follows from its other tables made anew, as from an older record."""
    found, seed = dict(result.tables), result.config["seed"]
    if "spread" not in found:
        found["spread"] = tables.spread(found["history"])
        found["history"] = tables.thinned(found["history"])
    found["gaps"] = equal_cost.gaps(found["documents"], seed=seed)
    found["versus"] = tables.versus(found["documents"], seed=seed)
    if "ablated" in found:  # without it an older record keeps the ablation that it has
        found["ablation"] = tables.ablation(found["documents"], found["ablated"], seed=seed)
    return dataclasses.replace(result, tables=found)


def _learn_all(task: AllocationTask, config: PPOPolicyConfig) -> list[Learned]:
    budgets = track(config.budgets, f"{task.stream}: learning", len(config.budgets))
    return [learn(task, budget, config.learning) for budget in budgets]


def _at(learned: list[Learned], budget: float) -> Learned:
    return next(each for each in learned if each.budget == budget)
