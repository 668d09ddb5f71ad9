"""The ways to decide that are compared at equal cost, each with what it is calibrated by.

A threshold or a gate chooses between SKIP and one update; which one, the validation documents say.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ponderttt.allocation import oracle
from ponderttt.allocation.calibration import (
    Calibrated,
    PolicyFactory,
    PolicyFamily,
    best_first,
    calibrate,
)
from ponderttt.allocation.stream import AllocationTask, Split, equiprobable_policy
from ponderttt.allocation.uninformed import UPDATES, by_kind, uninformed
from ponderttt.environment.tree import Tree, path_nodes
from ponderttt.environment.walk import walk
from ponderttt.policies import EMAGate, Policy, ThresholdBandit, UniformPolicy
from ponderttt.policies.thresholds import HEURISTICS
from ponderttt.progress import track
from ponderttt.types import CHUNK_ACTIONS, Episode

GROWTH = (1.05, 1.2)
"""Steps of the residual gate's ladder of thresholds."""
RIDGE = 300.0
"""Of the bandit's regression, by twofold cross-validation on training documents."""


def contest(task: AllocationTask, methods: Sequence[PolicyFamily]) -> list[Calibrated]:
    """The control and all candidates of `methods` at every cost of the curve, the best first."""
    found = uninformed(task) + by_kind(task)
    for method in track(methods, f"{task.stream}: calibrating", len(methods)):
        found += best_first(task, calibrate(task, method))
    return found


def decision_episode(part: Split, policy: Policy | None = None) -> Episode:
    """The units with a decision of `part`, read with `policy` (default: every unit UPDATE_1)."""
    episode = walk(part.tree, policy or UniformPolicy("UPDATE_1"), key=jax.random.key(0))
    return jax.tree.map(lambda x: x[:, :-1], episode)


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


def skip_continuation_gains(tree: Tree) -> Float[np.ndarray, "B E A"]:
    """What each action at every node gains over SKIP on all later units, if SKIP follows it."""
    nll = np.asarray(tree.nll, float)
    count, nodes = len(CHUNK_ACTIONS.names), nll.shape[1]
    later = nll.copy()  # of a node: its own loss and that of the nodes that SKIP leads to
    for node in reversed(range(nodes)):
        child = count * node + 1
        if child < nodes:
            later[:, node] += later[:, child]
    children = later[:, 1:].reshape(len(nll), -1, count)
    return children[..., :1] - children


def bandit(task: AllocationTask) -> dict[str, PolicyFactory]:
    """Each action's gain regressed on the features where all actions are as likely."""
    part = task.training
    features = task.features(part)
    keys = jax.random.split(jax.random.key(0), 16)
    read = jax.jit(
        jax.vmap(lambda key: walk(part.tree, equiprobable_policy(), key=key, features=features))
    )
    seen = read(keys)
    x = np.asarray(seen.features[:, :, :-1]).reshape(-1, features.shape[-1])
    nodes = path_nodes(np.asarray(seen.action))[..., :-1]  # S B N-1

    def make(fitted: ThresholdBandit, level: float) -> Policy:
        # The price falls from a tenth of a nat to nothing.
        price = jnp.asarray(0.1 * (1 - level) ** 4, jnp.float32)
        return ThresholdBandit(fitted.weights, price)

    found: dict[str, PolicyFactory] = {}
    for name, gains in (
        ("next unit", oracle.step_gains(part.tree)),
        ("rest", skip_continuation_gains(part.tree)),
    ):
        y = gains[np.arange(len(part))[None, :, None], nodes].reshape(-1, gains.shape[-1])
        found[name] = partial(make, ThresholdBandit.fit(x, y, ridge=RIDGE))
    return found


GATE = PolicyFamily("inner-loss gate", partial(gates, "inner_loss"))
BANDIT = PolicyFamily("bandit", bandit, features=True)
SIGNALS = (
    *(PolicyFamily(kind.replace("_", " "), partial(thresholds, kind)) for kind in HEURISTICS),
    GATE,
    PolicyFamily("delta gate", partial(gates, "delta")),
    PolicyFamily("residual gate", partial(gates, "residual")),
)
"""Training-free: nothing is fitted but thresholds."""
