"""From losses at sampled positions to tidy tables: gains in nats over the horizon."""

import numpy as np
import pandas as pd

from ponderttt.allocation.oracle import separable_gain
from ponderttt.evaluation.metrics import spearman_interval
from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.types import ActionSpace

REFERENCE = 4
"""Steps of every token but the one that is looked at."""

TITLES = {
    "token_optimal": "How often each K is best, and its gain over K4 (nats over the horizon)",
    "token_difficulty": "Rank correlation with the loss of the token just read (95 % by document)",
    "token_frontier": "The most that a mean K can gain over K4, and the same K for all positions",
}
"""What each table says, in a line."""


def gains_of(tokens: pd.DataFrame, actions: ActionSpace) -> np.ndarray:
    """[M, A]: what each option at a position gains over the reference there (nats)."""
    loss = tokens[list(actions.names)].to_numpy()
    return loss[:, [actions.steps.index(REFERENCE)]] - loss


def optimal(tokens: pd.DataFrame, actions: ActionSpace) -> pd.DataFrame:
    """Of each option: how often it is the best, and its mean gain with its interval by text."""
    gains = gains_of(tokens, actions)
    best = gains.argmax(axis=1)  # the cheaper of equals
    rows = []
    for a, name in enumerate(actions.names):
        by_document = pd.Series(gains[:, a]).groupby(tokens["document"].to_numpy()).mean()
        interval = cluster_interval([by_document.to_numpy()])
        rows.append(
            {
                "option": name, "steps": actions.steps[a], "share": float((best == a).mean()),
                "gain": interval.mean, "low": interval.low, "high": interval.high,
                "documents": interval.n,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def frontier(tokens: pd.DataFrame, actions: ActionSpace) -> pd.DataFrame:
    """At each mean K: the most that choosing by position gains, and the same K for all positions.

    Nats over the horizon of one position, beside the reference. The oracle has read what follows,
    and gains of changing one position at a time are taken to add up.
    """
    gains = gains_of(tokens, actions)
    same = gains.mean(axis=0)
    rows = []
    for budget in np.linspace(actions.costs[0], actions.costs[-1], 15):
        found = separable_gain(gains, float(budget), actions)
        rows.append((float(budget), found, float(np.interp(budget, actions.steps, same))))
    return pd.DataFrame(rows, columns=["mean_steps", "oracle", "same_for_all"])


def difficulty(tokens: pd.DataFrame, actions: ActionSpace, *, seed: int) -> pd.DataFrame:
    """Rank correlation of the loss of the token just read with its best K, and with K8's gain."""
    gains = gains_of(tokens, actions)
    targets = {
        "best K": np.asarray(actions.steps)[gains.argmax(axis=1)],
        f"gain of {actions.names[-1]} over {actions.names[0]}": gains[:, -1] - gains[:, 0],
    }
    rows = []
    for target, values in targets.items():
        found = spearman_interval(
            tokens["difficulty"], values, tokens["document"], seed, resamples=500
        )
        rows.append({"target": target} | found._asdict())
    return pd.DataFrame(rows)
