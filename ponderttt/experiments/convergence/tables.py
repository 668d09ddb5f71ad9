"""The tidy tables of the convergence page, from what was measured."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from ponderttt.evaluation.statistics import interval_by_source
from ponderttt.experiments.convergence.problems import Descent, fitted_rate
from ponderttt.types import ArrayLike

WAY = ["objective", "trained", "direction", "steps"]
KEPT = 60
"""Steps of a made descent that are kept, evenly spaced."""


def made(descents: list[tuple[float, int, Descent]], k_values: tuple[int, ...]) -> pd.DataFrame:
    """One row per (condition, problem, step): gap and theory; the rates are in every row.

    A rate is `-log` of the factor by which the gap shrinks in a step, in the end.
    """
    frames = []
    for condition, problem, descent in descents:
        last = len(descent.gap) - 1
        steps = np.unique(np.r_[0, [k for k in k_values if k <= last], np.linspace(0, last, KEPT)])
        index = steps.astype(int)
        frames.append(
            pd.DataFrame(
                {
                    "condition": condition,
                    "problem": problem,
                    "steps": index,
                    "gap": np.asarray(descent.gap, float)[index],
                    "expected": np.asarray(descent.expected, float)[index],
                    "theory": -np.log(float(descent.slowest)),
                    "measured": -np.log(fitted_rate(np.asarray(descent.gap, float))),
                }
            ).drop_duplicates("steps")
        )
    return pd.concat(frames, ignore_index=True)


def descents(
    descents: Descent, k_values: tuple[int, ...], rate: Float[np.ndarray, "H"]
) -> pd.DataFrame:
    """One row per K of one document: means over its units and heads (leaves [N * H, ...]).

    `unstable` is the share of units and heads on which `rate`, the layer's own, would diverge.
    """
    index = np.asarray([0, *k_values])

    def mean(x: ArrayLike) -> np.ndarray:
        return np.asarray(x, float)[:, index].mean(axis=0)

    return pd.DataFrame(
        {
            "steps": index,
            "gap": mean(descents.gap),
            "expected": mean(descents.expected),
            "excess": mean(descents.excess),
            "dual": float(np.mean(descents.dual)),
            "condition": float(np.median(descents.condition)),
            "unstable": float(np.mean(rate[None] > np.reshape(descents.stable, (-1, len(rate))))),
        }
    )


def with_gain(outer: pd.DataFrame) -> pd.DataFrame:
    """`outer` with `gain`: the loss of the same slow weights without any step less the loss."""
    keys = ["document", "objective", "trained"]
    still = outer[outer["steps"] == 0].set_index(keys)["loss"].rename("still")
    joined = outer.join(still, on=keys)
    return joined.assign(gain=joined["still"] - joined["loss"]).drop(columns="still")


def gains(outer: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Loss and gain of every way with its interval by document, all sources weighing the same."""
    rows = []
    for condition, group in with_gain(outer).groupby(WAY, sort=False, dropna=False):
        interval = interval_by_source(group["gain"], group["source"], seed=seed)
        rows.append(
            dict(zip(WAY, condition, strict=True))
            | {"loss": group.groupby("source")["loss"].mean().mean()}
            | {"inner_loss": group.groupby("source")["inner_loss"].mean().mean()}
            | {"gain": interval.mean}
            | interval._asdict()
        )
    return pd.DataFrame(rows).drop(columns="mean")
