"""From what was searched to tidy tables: losses in nats a token, costs nominal and a unit."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ponderttt.allocation import equal_cost, oracle
from ponderttt.allocation.calibration import CURVE, decision_budget
from ponderttt.allocation.stream import by_source
from ponderttt.evaluation.metrics import spearman_interval
from ponderttt.evaluation.statistics import interval_by_source
from ponderttt.policies.features import NAMES
from ponderttt.types import CHUNK_ACTIONS

if TYPE_CHECKING:
    from ponderttt.experiments.oracle.run import Searched

FRONTIER = (1.0, 1.25, 1.5, 2.0, 2.5, 3.125, 4.0, 5.0, 6.5, 8.0, 10.0, 12.0)
"""Budgets at which the frontier is drawn."""


def documents(searched: "Searched", budgets: tuple[float, ...]) -> pd.DataFrame:
    """Rows as on every page: control, search one step ahead and oracle at exactly each budget."""
    control = equal_cost.curves(searched.controls)["control"]
    curves = {"control": control, "one step": searched.ahead}
    return equal_cost.documents(searched.task, equal_cost.interpolate(curves, budgets), control)


def available(table: pd.DataFrame, controls: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """What an allocation can gain over the control, by source and over all, with intervals.

    `table` is that of `documents`, `controls` that of `points`. The first gains are over SKIP;
    `gain` is the oracle's over the control at equal cost, over all sources the oracle's row of
    `gaps` on the other pages; `ahead` is that of search one step ahead over the oracle.
    """
    chosen = controls[controls["chosen"]].set_index(["stream", "budget"])["candidate"]
    rows = []
    for (stream, budget), group in table.groupby(["stream", "budget"], sort=False):
        for source in [*dict.fromkeys(group["source"]), "all"]:
            part = group if source == "all" else group[group["source"] == source]
            best = equal_cost.gain(part, "oracle", "control", seed=seed)
            ahead = equal_cost.gain(part, "one step", "oracle", seed=seed)
            by_kind = part.groupby(["method", "source"])[["gain", "cost"]].mean()
            means = by_kind.groupby("method").mean()
            rows.append(
                {
                    "stream": stream,
                    "budget": budget,
                    "source": source,
                    "control": chosen.get((stream, budget), "between two"),
                    "control_gain": means.loc["control", "gain"],
                    "oracle_gain": means.loc["oracle", "gain"],
                    "greedy_gain": means.loc["one step", "gain"],
                    "control_cost": means.loc["control", "cost"],
                    "oracle_cost": means.loc["oracle", "cost"],
                    "gain": best.mean,
                    **best._asdict(),
                    "ahead": ahead.mean,
                    "ahead_low": ahead.low,
                    "ahead_high": ahead.high,
                }
            )
    return pd.DataFrame(rows).drop(columns="mean")


def frontier(searched: "Searched") -> pd.DataFrame:
    """Mean loss against mean cost: the oracle, one-step search, every control, every action."""
    texts, units = searched.task.test.texts, searched.task.units
    rows: list[tuple] = []
    for budget in FRONTIER:
        chosen = oracle.at_budget(searched.allocations, budget, units)
        cost = float(chosen.cost.mean() / units)
        rows.append(("oracle", budget, cost, by_source(chosen.loss / units, texts)))
        if np.isfinite(ahead := searched.ahead.interpolate(budget).loss).all():
            rows.append(("one step", budget, budget, by_source(ahead, texts)))
    for name, outcome in searched.fixed.items():
        rows.append((name, np.nan, float(outcome.cost.mean()), by_source(outcome.loss, texts)))
    control = equal_cost.curves(searched.controls)["control"]
    for budget, cost, loss in zip(CURVE, control.cost, control.loss, strict=True):
        rows.append(("control", budget, float(cost.mean()), by_source(loss, texts)))
    return pd.DataFrame(rows, columns=["method", "budget", "cost", "loss"]).assign(
        stream=searched.task.stream
    )


def fixed(searched: "Searched", *, seed: int) -> pd.DataFrame:
    """Gain over SKIP of each action on every unit, by kind of text."""
    texts, skip = searched.task.test.texts, searched.fixed["SKIP"].loss
    stream = searched.task.stream
    rows = []
    for name, outcome in searched.fixed.items():
        gain = pd.Series(skip - outcome.loss)
        sources = pd.Series(texts.sources)
        for source in [*dict.fromkeys(texts.sources), "all"]:
            here = np.ones(len(gain), bool) if source == "all" else sources == source
            interval = interval_by_source(gain[here], sources[here], seed=seed)
            rows.append(
                {"stream": stream, "source": source, "action": name, "gain": interval.mean}
                | interval._asdict()
            )
    return pd.DataFrame(rows).drop(columns="mean")


def allocations(searched: "Searched", budgets: tuple[float, ...]) -> pd.DataFrame:
    """How often the oracle takes each action, by source and position in the document."""
    texts, units = searched.task.test.texts, searched.task.units
    frames = []
    for budget in budgets:
        mix = oracle.at_budget(searched.allocations, budget, units).mix
        for source in dict.fromkeys(texts.sources):
            here = mix[np.asarray(texts.sources) == source].mean(axis=0)  # N A
            n, a = np.indices(here.shape)
            frames.append(
                pd.DataFrame(
                    {
                        "stream": searched.task.stream,
                        "budget": budget,
                        "source": source,
                        "unit": n.reshape(-1),
                        "action": np.asarray(CHUNK_ACTIONS.names)[a.reshape(-1)],
                        "share": here.reshape(-1),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def correlations(searched: "Searched", budgets: tuple[float, ...], *, seed: int) -> pd.DataFrame:
    """Rank correlation of each feature with the oracle's steps, and with the next unit's gain.

    Over units, the last of each document left out (nothing is decided there); the mean of each
    position is taken off both, and features that tell nothing else are left out; intervals by
    whole documents. Features are those seen where every unit takes UPDATE_1.
    """
    units = searched.task.units
    features = searched.signals
    budget = budgets[len(budgets) // 2]
    mix = oracle.at_budget(searched.allocations, budget, units).mix
    steps = mix @ np.asarray(CHUNK_ACTIONS.steps)
    targets = {
        "oracle steps": steps[:, :-1],
        "gain on the next unit": searched.gains[..., CHUNK_ACTIONS.position("UPDATE_1")],
    }
    clusters = np.repeat(np.arange(len(features)), units - 1)
    rows = []
    for target, values in targets.items():
        y = (values - values.mean(axis=0)).reshape(-1)
        for i, name in enumerate(NAMES):
            x = features[..., i] - features[..., i].mean(axis=0)
            if np.abs(x).max() < 1e-5:
                continue
            found = spearman_interval(x.reshape(-1), y, clusters, seed, resamples=200)
            stream = searched.task.stream
            rows.append({"stream": stream, "target": target, "feature": name} | found._asdict())
    return pd.DataFrame(rows)


def one_step(searched: "Searched", budgets: tuple[float, ...]) -> pd.DataFrame:
    """The separable bound, nats a token: what one-step gains would be worth by themselves."""
    gains = searched.gains.reshape(-1, len(CHUNK_ACTIONS.names))
    task, deciding = searched.task, 1 - 1 / searched.task.units
    stream = searched.task.stream
    rows = [
        (stream, budget, deciding * oracle.separable_gain(gains, decision_budget(task, budget)))
        for budget in budgets
    ]
    return pd.DataFrame(rows, columns=["stream", "budget", "gain"])
