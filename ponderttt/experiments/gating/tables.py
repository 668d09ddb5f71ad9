"""From signals and gates to tidy tables."""

from typing import Any

import jax
import numpy as np
import pandas as pd

from ponderttt.allocation.candidates import decision_episode
from ponderttt.allocation.stream import AllocationTask
from ponderttt.evaluation.metrics import spearman_interval
from ponderttt.policies import EMAGate
from ponderttt.policies.thresholds import DEFAULT_MIX, HEURISTICS
from ponderttt.types import CHUNK_ACTIONS

UPDATE = CHUNK_ACTIONS.position("UPDATE_1")
SHARE = 0.5
"""Of the units that the gate whose drift is shown aims at."""


def signals(task: AllocationTask, *, seed: int) -> pd.DataFrame:
    """Rank correlation of each signal with what UPDATE_1 truly gains, where all units take it.

    Over the units with a decision, by kind of text and over all; intervals by whole documents.
    The mean of each position in the document is taken off both: fewer units are left to gain on
    later, and losses fall, whatever the text.
    """
    part = task.test
    seen = decision_episode(part)
    gains = part.environment.counterfactuals
    targets = {
        "the next unit": gains(seen, "next")[..., UPDATE],
        "the rest of the document": gains(seen, "rest")[..., UPDATE],
    }
    values: dict[str, Any] = {
        name.replace("_", " "): kind.of_episode(seen) for name, kind in HEURISTICS.items()
    }
    values["change of loss"] = np.diff(seen.nll, axis=1, prepend=seen.nll[:, :1])
    sources = np.asarray(part.texts.sources)
    rows = []
    for target, gain in targets.items():
        for signal, value in values.items():
            for source in [*dict.fromkeys(part.texts.sources), "all"]:
                here = np.ones(len(part), bool) if source == "all" else sources == source
                first = int(signal == "change of loss")  # the first unit has none before it
                clusters = np.repeat(np.arange(here.sum()), task.units - 1 - first)
                x, y = (each[here] - each[here].mean(axis=0) for each in (np.asarray(value), gain))
                found = spearman_interval(
                    x[:, first:].reshape(-1),
                    y[:, first:].reshape(-1),
                    clusters,
                    seed,
                    resamples=200,
                )
                row = {"stream": task.stream, "target": target, "signal": signal}
                rows.append(row | {"source": source} | found._asdict())
    return pd.DataFrame(rows)


def calibration(task: AllocationTask) -> pd.DataFrame:
    """The mix that thresholds give on test documents, where validation's was the target."""
    rows = []
    for name, kind in HEURISTICS.items():
        policy = kind.calibrate(decision_episode(task.validation), DEFAULT_MIX)
        taken = np.asarray(decision_episode(task.test, policy).action)
        for a, action in enumerate(CHUNK_ACTIONS.names):
            share = float((taken == a).mean())
            rows.append((task.stream, name.replace("_", " "), action, DEFAULT_MIX[a], share))
    return pd.DataFrame(rows, columns=["stream", "signal", "action", "target", "share"])


def drift(task: AllocationTask) -> pd.DataFrame:
    """The inner-loss gate's threshold before each test document, and its running share."""
    losses = np.asarray(decision_episode(task.validation).inner_loss)
    gate = EMAGate.calibrate(losses, target=SHARE)
    episode = task.test.padded.run(gate, key=jax.random.key(0))
    episode = jax.tree.map(lambda x: np.asarray(x)[: len(task.test)], episode)
    # What a document starts with is what the one before it ended with.
    start, after = gate.init(jax.random.key(0)), episode.state
    threshold, share = (
        np.append(float(first), np.asarray(x, float)[:-1, -1])
        for first, x in ((start.threshold, after.threshold), (start.share, after.share))
    )
    return pd.DataFrame(
        {
            "stream": task.stream,
            "document": np.arange(len(task.test)),
            "source": task.test.texts.sources,
            "threshold": threshold,
            "running_share": share,
            "updated": (np.asarray(episode.action)[:, :-1] > 0).mean(axis=1),
        }
    )
