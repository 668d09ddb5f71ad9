"""The ppo_policy experiment: learned policies beside gate, bandit and control at equal cost."""

import dataclasses

import pandas as pd

from ponderttt.allocation import equal_cost
from ponderttt.allocation.candidates import BANDIT, GATE, calibrate_all
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
    each_document = []
    for s in tasks:
        curves = equal_cost.curves(found[s.stream])
        ppo = {each.budget: tables.mean_outcome(each) for each in learned[s.stream]}
        at = equal_cost.interpolate(curves, config.budgets) | {"PPO": ppo}
        each_document.append(equal_cost.documents(s, at, curves["control"]))
    documents = pd.concat(each_document, ignore_index=True)
    every = [(s, each) for s in tasks for each in learned[s.stream]]
    history = pd.concat(
        [tables.history(s, each, "positional") for s, each in every]
        + [tables.history(main, velocity, "velocity")]
    )
    return Result(
        name="ppo_policy",
        config=dataclasses.asdict(config),
        tables={
            "points": pd.concat([equal_cost.points(found[s.stream], s) for s in tasks]),
            "learned": pd.concat([tables.learned(s, each) for s, each in every]),
            "frontier": pd.concat([equal_cost.frontier(s) for s in tasks]),
            "documents": documents,
            "gaps": equal_cost.gaps(documents, seed=config.seed),
            "versus": tables.versus(documents, seed=config.seed),
            "seeds": pd.concat([tables.seeds(s, each, documents) for s, each in every]),
            "history": tables.thinned(history),
            "spread": tables.spread(history),
            "ablation": tables.ablation(main, ablated, documents, seed=config.seed),
            "strip": tables.strip(main, _at(learned[main.stream], middle), lm.tokenizer_name),
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


def derive(result: Result) -> Result:
    """`result` as `run` would give it today, from what a record of an older commit holds."""
    found = dict(result.tables)
    if "spread" not in found:
        found["spread"] = tables.spread(found["history"])
        found["history"] = tables.thinned(found["history"])
    return dataclasses.replace(result, tables=found)


def _learn_all(task: AllocationTask, config: PPOPolicyConfig) -> list[Learned]:
    budgets = track(config.budgets, f"{task.stream}: learning", len(config.budgets))
    return [learn(task, budget, config.learning) for budget in budgets]


def _at(learned: list[Learned], budget: float) -> Learned:
    return next(each for each in learned if each.budget == budget)
