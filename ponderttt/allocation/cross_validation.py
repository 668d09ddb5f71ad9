"""What is tuned on training documents, by leaving some of them out: chosen, with the numbers.

Units of a document resemble one another, so whole documents are left out, never single units.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ponderttt.errors import InputError

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
"""Penalties among which the bandit's is chosen."""
LONE_RIDGE = 300.0
"""Where there is one document only, and so none to leave out."""


class Ridge(NamedTuple):
    """The penalty with the least error, and the error of each."""

    ridge: float
    table: pd.DataFrame
    """Columns `ridge`, `error` (mean square, nats a token) and `chosen`."""


def choose_ridge(
    features: Float[np.ndarray, "M F"],
    gains: Float[np.ndarray, "M A"],
    documents: Int[np.ndarray, "M"],
    ridges: Sequence[float] = RIDGES,
) -> Ridge:
    """The penalty of `ThresholdBandit.fit` that predicts the gains of a document left out best.

    Each document is left out once and weighs the same; `documents` says which each row is of. The
    normal equations of the others are those of all less its own, so this costs a solve each.
    """
    if not len(ridges) or min(ridges) <= 0:
        raise InputError(f"ridges {list(ridges)}: expected one or more, all above 0")
    x = np.column_stack([np.asarray(features, float), np.ones(len(features))])
    y = np.asarray(gains, float)
    rows = [np.flatnonzero(documents == document) for document in np.unique(documents)]
    if len(rows) < 2:
        return Ridge(LONE_RIDGE, pd.DataFrame(columns=["ridge", "error", "chosen"]))
    grams, moments = (np.stack([x[i].T @ z[i] for i in rows]) for z in (x, y))
    grams, moments = grams.sum(axis=0) - grams, moments.sum(axis=0) - moments
    penalised = np.diag([*np.ones(x.shape[1] - 1), 0.0])  # not the constant
    errors = []
    for ridge in ridges:
        weights = np.linalg.solve(grams + ridge * penalised, moments)
        missed = [np.mean((y[i] - x[i] @ w) ** 2) for i, w in zip(rows, weights, strict=True)]
        errors.append(float(np.mean(missed)))
    best = int(np.argmin(errors))
    table = pd.DataFrame({"ridge": ridges, "error": errors})
    return Ridge(float(ridges[best]), table.assign(chosen=table.index == best))


def folds(sources: Sequence[str], count: int = 2) -> Int[np.ndarray, "B"]:
    """The fold of each document: those of a source take turns, so that folds are alike.

    >>> folds(["go", "zig", "go", "zig"]).tolist()
    [0, 0, 1, 1]
    """
    return np.array([list(sources[:i]).count(name) % count for i, name in enumerate(sources)])
