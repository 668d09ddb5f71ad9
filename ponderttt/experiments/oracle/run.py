"""The oracle experiment: every test document searched, beside the best uninformed control."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from ponderttt.evaluation import oracle
from ponderttt.experiments import allocation
from ponderttt.experiments.allocation import Control, Outcome, Setting
from ponderttt.experiments.episodes import Arrays, Features, fingerprint, remembered
from ponderttt.experiments.oracle import tables
from ponderttt.experiments.oracle.config import OracleConfig
from ponderttt.experiments.progress import track
from ponderttt.experiments.result import Result
from ponderttt.models.lm import TransformerLM
from ponderttt.policies import UniformPolicy
from ponderttt.storage import code_fingerprint
from ponderttt.types import CHUNK_ACTIONS

_CODE = code_fingerprint("types.py", "rollout.py", "inner", "models", "evaluation/oracle.py")
"""What another search found is not ours."""


class Searched(NamedTuple):
    """One stream: its setting, and what was read and searched of its test documents."""

    setting: Setting
    fixed: dict[str, Outcome]
    found: oracle.Found
    greedy: oracle.Found
    gains: np.ndarray
    """[B, N, A]: what each action gains on the next unit where every unit takes UPDATE_1."""
    signals: list[Arrays]
    """The test documents' episodes under UPDATE_1."""
    controls: dict[float, tuple[Control, Outcome]]


def run(config: OracleConfig) -> Result:
    """Search every stream's test documents; see `tables` for what comes back."""
    lm = TransformerLM.from_pretrained(config.model, dtype=config.dtype)
    searched = {name: _search_stream(lm, config, name) for name in config.streams}
    documents = pd.concat(
        tables.documents(name, each, config.budgets) for name, each in searched.items()
    )
    first = next(iter(searched.values()))
    return Result(
        name="oracle",
        config=dataclasses.asdict(config),
        tables={
            "documents": documents,
            "available": tables.available(documents, seed=config.seed),
            "frontier": pd.concat(tables.frontier(n, each) for n, each in searched.items()),
            "fixed": pd.concat(
                tables.fixed(n, each, seed=config.seed) for n, each in searched.items()
            ),
            "allocations": pd.concat(
                tables.allocations(n, each, config.budgets) for n, each in searched.items()
            ),
            "correlations": pd.concat(
                tables.correlations(n, each, config.budgets, seed=config.seed)
                for n, each in searched.items()
            ),
            "one_step": pd.concat(
                tables.one_step(n, each, config.budgets) for n, each in searched.items()
            ),
            "controls": pd.concat(
                control.table.assign(stream=name)
                for name, each in searched.items()
                for control, _ in each.controls.values()
            ),
            "tuning": pd.concat(s.setting.tuned.assign(stream=n) for n, s in searched.items()),
        },
        scalars={
            "test_documents": sum(len(each.setting.test) for each in searched.values()),
            "allocations": int(first.found.loss.shape[1]),
            "exhaustive": float(len(CHUNK_ACTIONS.names)) ** (config.units - 1),
            "model": lm.name,
            "fingerprint": lm.fingerprint,
        },
        meta={"sources": {n: each.setting.test.record for n, each in searched.items()}},
    )


def _search_stream(lm: TransformerLM, config: OracleConfig, stream: str) -> Searched:
    setting = allocation.prepare(
        lm, stream,
        train_documents=config.train_documents, test_documents=config.test_documents,
        units=config.units, unit_size=config.unit_size, seed=config.seed,
    )  # fmt: skip
    fixed = allocation.fixed_actions(setting, setting.test, f"{stream}: test")
    search = partial(oracle.search, prices=config.prices, width=config.width)
    ahead = partial(oracle.one_step, prices=config.prices)
    indices = range(len(setting.test))
    found, greedy, gains = [], [], []
    for i in track(indices, f"{stream}: searching allocations", len(indices)):
        found.append(_found(setting, search, f"search {config.prices} {config.width}", i))
        greedy.append(_found(setting, ahead, f"one step {config.prices}", i))
        gains.append(_counterfactuals(setting, i))
    controls, on_validation = {}, allocation.validation_gains(setting)
    for budget in config.budgets:
        control = allocation.best_uninformed(setting, on_validation, budget)
        label = f"{stream}: {control.name} at {budget:g}"
        controls[budget] = (control, Outcome.of(setting.read(control.policy, setting.test, label)))
    features = Features(setting.extractor(CHUNK_ACTIONS.costs[1]), setting.describe(setting.test))
    update = UniformPolicy("UPDATE_1")
    return Searched(
        setting, fixed, _stack(found), _stack(greedy),
        np.stack([each["gains"] for each in gains]),
        setting.read(update, setting.test, f"{stream}: signals", features),
        controls,
    )  # fmt: skip


def _stack(found: list[Arrays]) -> oracle.Found:
    fields = (np.stack([each[k] for each in found]) for k in oracle.Found._fields)
    return oracle.Found(*(jnp.asarray(x) for x in fields))


def _key(setting: Setting, index: int, *parts) -> str:
    documents, _ = setting.test.corpus.batch(np.asarray([index]))
    adapter = setting.adapter
    return fingerprint(
        _CODE, setting.reader.lm.fingerprint, type(adapter).__name__, adapter, adapter.spec,
        documents, *parts,
    )  # fmt: skip


def _found(setting: Setting, search: Callable[..., oracle.Found], what: str, index: int) -> Arrays:
    def compute() -> Arrays:
        documents, hidden = setting.test.corpus.batch(np.asarray([index]))
        found = search(setting.reader.lm, setting.adapter, documents, hidden=hidden)
        return {name: np.asarray(value[0]) for name, value in found._asdict().items()}

    return remembered(_key(setting, index, what), compute)


def _counterfactuals(setting: Setting, index: int) -> Arrays:
    def compute() -> Arrays:
        documents, hidden = setting.test.corpus.batch(np.asarray([index]))
        taken = jnp.full(documents.tokens.shape[:2], CHUNK_ACTIONS.position("UPDATE_1"))
        gains = oracle.counterfactuals(
            setting.reader.lm, setting.adapter, documents, taken, hidden=hidden
        )
        return {"gains": np.asarray(gains[0])}

    return remembered(_key(setting, index, "counterfactuals"), compute)
