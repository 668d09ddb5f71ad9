"""The methods that are compared at equal cost, each with what it is calibrated by.

A threshold or a gate chooses between SKIP and one update; which one, the validation documents say.
"""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ponderttt.allocation.calibration import (
    Calibrated,
    PolicyFactory,
    PolicyFamily,
    best_first,
    calibrate,
)
from ponderttt.allocation.cross_validation import choose_ridge
from ponderttt.allocation.stream import AllocationTask, Split, equiprobable_policy
from ponderttt.allocation.uninformed import UPDATES, by_kind, uninformed
from ponderttt.environment.protocol import Horizon
from ponderttt.environment.walk import TreeEnvironment
from ponderttt.policies import EMAGate, Policy, ThresholdBandit, UniformPolicy
from ponderttt.policies.thresholds import HEURISTICS
from ponderttt.progress import track
from ponderttt.types import CHUNK_ACTIONS, Episode

GROWTH = (1.05, 1.2)
"""Steps of the residual gate's ladder of thresholds."""
HORIZONS: dict[str, Horizon] = {"next unit": "next", "rest": "rest"}
"""What the bandit's candidates credit an action with."""


def calibrate_all(task: AllocationTask, families: Sequence[PolicyFamily]) -> list[Calibrated]:
    """The control and all candidates of `families` at every cost of the curve, the best first."""
    found = uninformed(task) + by_kind(task)
    for family in track(families, f"{task.stream}: calibrating", len(families)):
        found += best_first(task, calibrate(task, family))
    return found


def decision_episode(part: Split, policy: Policy | None = None) -> Episode:
    """The units with a decision of `part` under `policy` (default: every unit UPDATE_1)."""
    episode = part.padded.run(policy or UniformPolicy("UPDATE_1"), key=jax.random.key(0))
    return jax.tree.map(lambda x: np.asarray(x)[: len(part), :-1], episode)


def thresholds(kind: str, task: AllocationTask) -> dict[str, PolicyFactory]:
    """A heuristic whose thresholds give an update to a share of the validation units."""
    seen = decision_episode(task.validation)

    def make(action: str, share: float) -> Policy:
        mix = np.eye(len(CHUNK_ACTIONS.names))[CHUNK_ACTIONS.position(action)] * share
        mix[0] += 1 - share
        return HEURISTICS[kind].calibrate(seen, mix.tolist())

    return {action: partial(make, action) for action in UPDATES}


def gates(how: str, task: AllocationTask) -> dict[str, PolicyFactory]:
    """An EMA gate on the inner loss, on its change, or with a ladder of thresholds."""
    losses = np.asarray(decision_episode(task.validation).inner_loss)

    def make(share: float, **options) -> Policy:
        return EMAGate.calibrate(losses, target=share, **options)

    if how == "residual":
        return {f"growth {growth:g}": partial(make, growth=growth) for growth in GROWTH}
    return {action: partial(make, action=action, signal=how) for action in UPDATES}


def bandit(task: AllocationTask) -> dict[str, PolicyFactory]:
    """Each action's gain regressed on the features where all actions are as likely.

    With full counterfactual feedback: on the next unit alone, or on the rest of the document.
    """

    def make(fitted: ThresholdBandit, level: float) -> Policy:
        # The price falls from a tenth of a nat to nothing.
        price = np.asarray(0.1 * (1 - level) ** 4, np.float32)
        return ThresholdBandit(fitted.weights, price)

    found: dict[str, PolicyFactory] = {}
    for name, horizon in HORIZONS.items():
        x, y, documents = feedback(task.training, horizon)
        ridge = choose_ridge(x, y, documents).ridge
        found[name] = partial(make, ThresholdBandit.fit(x, y, ridge=ridge))
    return found


def ridge_table(task: AllocationTask) -> pd.DataFrame:
    """The bandit's ridge penalties with their errors on documents left out: how one was chosen."""
    tables = [
        choose_ridge(*feedback(task.training, horizon)).table.assign(candidate=name)
        for name, horizon in HORIZONS.items()
    ]
    return pd.concat(tables, ignore_index=True).assign(stream=task.stream)


def feedback(
    part: Split, horizon: Horizon, draws: int = 16
) -> tuple[Float[np.ndarray, "M F"], Float[np.ndarray, "M A"], Int[np.ndarray, "M"]]:
    """Features and gains of all actions at the decisions of `draws` equiprobable episodes.

    And the document that each is of.
    """
    seen = _run_all(part.environment, jax.random.split(jax.random.key(0), draws))
    gains = part.environment.counterfactuals(seen, horizon)
    x = np.asarray(seen.features)[:, :, :-1]
    documents = np.broadcast_to(np.arange(len(part))[None, :, None], x.shape[:-1])
    return x.reshape(-1, x.shape[-1]), gains.reshape(-1, gains.shape[-1]), documents.reshape(-1)


@jax.jit
def _run_all(environment: TreeEnvironment, keys) -> Episode:
    return jax.vmap(lambda key: environment.run(equiprobable_policy(), key=key))(keys)


GATE = PolicyFamily("inner-loss gate", partial(gates, "inner_loss"))
BANDIT = PolicyFamily("bandit", bandit)
SIGNALS = (
    *(PolicyFamily(kind.replace("_", " "), partial(thresholds, kind)) for kind in HEURISTICS),
    GATE,
    PolicyFamily("delta gate", partial(gates, "delta")),
    PolicyFamily("residual gate", partial(gates, "residual")),
)
"""Training-free: nothing is fitted but thresholds."""
