"""Is a method better than what it must beat? Paired by seed and document."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from ponderttt.evaluation.paired import bonferroni, holm, paired_test
from ponderttt.evaluation.statistics import two_way_interval
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import RANDOM, spec_of

EFFECT = 0.005
"""Nats a token whose detection the power is for."""


def tests(config: ComparisonConfig, documents: pd.DataFrame) -> pd.DataFrame:
    """Paired tests of each method against what it must beat; corrected within each contrast.

    Against `uniform_k4`, and of methods that choose by token against the random control of the same
    cost. `seed_p` is the exact sign-flip test over the seeds' mean differences; `wilcoxon_p` takes
    every seed and document for a sample, which they are not where a seed is better on all of them.
    `holm_p` and `bonferroni_p` correct the first (the second where there is one seed, or
    `test="documents"`).
    """
    losses = documents.pivot(index=["seed", "document"], columns="method", values="loss")
    contrasts: dict[str, list[str]] = {"uniform_k4": [], "random": []}
    for name in config.methods:
        if "uniform_k4" in losses and name != "uniform_k4":
            contrasts["uniform_k4"].append(name)
        if spec_of(name).controlled:
            contrasts["random"].append(name)
    frames = []
    for against, names in contrasts.items():
        rows = [
            _tested(losses[name], losses[RANDOM + name if against == "random" else against])
            | {"method": name, "against": against}
            for name in names
        ]
        if rows:
            frames.append(_corrected(config, pd.DataFrame(rows)))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _tested(a: pd.Series, b: pd.Series) -> dict[str, Any]:
    table = (a - b).unstack("document").to_numpy()  # seeds, documents
    interval = two_way_interval(table)
    pairs = paired_test(a.to_numpy(), b.to_numpy())
    by_seed = table.mean(axis=1)
    return interval._asdict() | {
        "seed_p": paired_test(by_seed, np.zeros_like(by_seed)).permutation_p,
        "wilcoxon_p": pairs.wilcoxon_p,
        "cohens_d": pairs.cohens_d,
        "cliffs_delta": pairs.cliffs_delta,
        "improvement": pairs.improvement,
        "seeds_better": int((by_seed < 0).sum()),
        "power": power(interval.error),
    }


def _corrected(config: ComparisonConfig, table: pd.DataFrame) -> pd.DataFrame:
    pairs = len(config.seeds) == 1 or config.test == "documents"
    p = table["wilcoxon_p" if pairs else "seed_p"].to_numpy()
    return table.assign(p=p, holm_p=holm(p), bonferroni_p=bonferroni(p))


def power(error: float, effect: float = EFFECT, alpha: float = 0.05) -> float:
    """Chance of seeing a difference of `effect` nats a token where its standard error is `error`.

    >>> round(power(0.005 / 2.8), 2)
    0.8
    """
    if not error > 0:
        return float("nan")
    edge = norm.ppf(1 - alpha / 2)
    return float(norm.sf(edge - effect / error) + norm.cdf(-edge - effect / error))
