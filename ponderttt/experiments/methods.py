"""The ways to decide that are compared at equal cost, each with what it is calibrated by.

A threshold or a gate chooses between SKIP and one update; which one, the validation documents say.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import linprog

from ponderttt.evaluation import oracle
from ponderttt.experiments.allocation import Part, Setting, even
from ponderttt.experiments.contest import (
    CURVE,
    Calibrated,
    Make,
    Method,
    Outcome,
    always,
    best_first,
    calibrate,
    decision_budget,
    draw,
)
from ponderttt.experiments.progress import track
from ponderttt.policies import (
    EMAGate,
    Policy,
    SchedulePolicy,
    ThresholdBandit,
    UniformPolicy,
    best_mix,
)
from ponderttt.policies.thresholds import HEURISTICS
from ponderttt.tree import Tree, path_nodes, walk
from ponderttt.types import CHUNK_ACTIONS, Episode

UPDATES = CHUNK_ACTIONS.names[1:]
GROWTH = (1.05, 1.2)
"""Steps of the residual gate's ladder of thresholds."""
RIDGE = 300.0
"""Of the bandit's regression, by twofold cross-validation on training documents."""


def uninformed(setting: Setting, budgets: Sequence[float] = CURVE) -> list[Calibrated]:
    """What can be decided without looking at the text, at a cost that is known in advance.

    The best schedule mixes whole allocations, the same for every document, by the linear program on
    the validation documents: nothing uninformed reads those better. The best mix draws each unit's
    action alike, and "first" updates early; they are shown beside it. The one that reads the
    validation documents best is the yardstick.
    """
    gains, found, units = always(setting.validation), [], setting.units - 1
    parts = (setting.validation, setting.test)
    for budget, scheduled in zip(budgets, _scheduled(parts, budgets), strict=True):
        each = decision_budget(setting, budget)
        tried = {"best mix": np.tile(best_mix(gains, each), (units, 1))}
        for name, cost in zip(UPDATES, CHUNK_ACTIONS.costs[1:], strict=True):
            if cost >= each:
                first = SchedulePolicy.first(name, each, units)
                tried[f"{name} first"] = np.asarray(first.probabilities)
        for name, table in tried.items():
            found.append(
                Calibrated("control", name, budget, *(draw(part, table) for part in parts))
            )
        found.append(Calibrated("control", "best schedule", budget, *scheduled))
    return best_first(setting, found)


def _scheduled(
    parts: tuple[Part, Part], budgets: Sequence[float], *, by_kind: bool = False
) -> Iterator[list[Outcome]]:
    """The mixture of allocations that reads the first part best, on both parts, for each budget.

    One for all documents, or one for each kind of text, which costs less where updating gains less.
    """
    found = [oracle.everything(part.tree) for part in parts]
    units = found[0].action.shape[-1]
    kinds = pd.Series(parts[0].texts.sources)
    loss = pd.DataFrame(np.asarray(found[0].loss) / units).groupby(kinds, sort=False).mean()
    groups = [
        loss.index.get_indexer(pd.Index(part.texts.sources)) if by_kind else [0] * len(part)
        for part in parts
    ]
    if not by_kind:
        loss = loss.mean().to_frame().T
    costs = np.asarray(found[0].cost)[0] / units
    steps = np.asarray(CHUNK_ACTIONS.steps)[np.asarray(found[0].action[0])].mean(axis=-1)
    count, ways = loss.shape
    sums = np.vstack([np.kron(np.eye(count), np.ones(ways)), np.tile(costs, count) / count])
    for budget in budgets:
        solution = linprog(
            loss.to_numpy().ravel(), A_eq=sums, b_eq=[*np.ones(count), budget], bounds=(0.0, 1.0)
        )
        share = solution.x.reshape(count, ways)
        yield [
            Outcome(
                np.sum(np.asarray(f.loss) / units * share[g], axis=1),
                (share @ costs)[g],
                (share @ steps)[g],
            )
            for f, g in zip(found, groups, strict=True)
        ]


def by_kind(setting: Setting, budgets: Sequence[float] = CURVE) -> list[Calibrated]:
    """A schedule for each kind of text: what the name of a file tells, and nothing else.

    None where the test documents are of other kinds than the validation documents, or all of one.
    """
    parts = (setting.validation, setting.test)
    kinds = [set(part.texts.sources) for part in parts]
    if kinds[0] != kinds[1] or len(kinds[0]) == 1:
        return []
    return [
        Calibrated("kind of text", "schedule", budget, *outcomes)
        for budget, outcomes in zip(budgets, _scheduled(parts, budgets, by_kind=True), strict=True)
    ]


def contest(setting: Setting, methods: Sequence[Method]) -> list[Calibrated]:
    """The control and all candidates of `methods` at every cost of the curve, the best first."""
    found = uninformed(setting) + by_kind(setting)
    for method in track(methods, f"{setting.stream}: calibrating", len(methods)):
        found += best_first(setting, calibrate(setting, method))
    return found


def deciding(part: Part, policy: Policy | None = None) -> Episode:
    """The units with a decision of `part`, read with `policy` (default: every unit UPDATE_1)."""
    episode = walk(part.tree, policy or UniformPolicy("UPDATE_1"), key=jax.random.key(0))
    return jax.tree.map(lambda x: x[:, :-1], episode)


def thresholds(kind: str, setting: Setting) -> dict[str, Make]:
    """A heuristic whose thresholds give an update to a share of the validation units."""
    seen = deciding(setting.validation)

    def make(action: str, share: float) -> Policy:
        mix = np.eye(len(CHUNK_ACTIONS.names))[CHUNK_ACTIONS.position(action)] * share
        mix[0] += 1 - share
        return HEURISTICS[kind].calibrate(seen, mix.tolist())

    return {action: partial(make, action) for action in UPDATES}


def gates(how: str, setting: Setting) -> dict[str, Make]:
    """An EMA gate on the inner loss, on its change, or with a ladder of thresholds."""
    losses = np.asarray(deciding(setting.validation).inner_loss)

    def make(share: float, **options) -> Policy:
        return EMAGate.calibrate(losses, target=share, **options)

    if how == "residual":
        return {f"growth {growth:g}": partial(make, growth=growth) for growth in GROWTH}
    return {action: partial(make, action=action, signal=how) for action in UPDATES}


def returns(tree: Tree) -> Float[np.ndarray, "B E A"]:
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


def bandit(setting: Setting) -> dict[str, Make]:
    """Each action's gain regressed on the features where all actions are as likely."""
    part = setting.training
    features = setting.features(part)
    keys = jax.random.split(jax.random.key(0), 16)
    read = jax.jit(jax.vmap(lambda key: walk(part.tree, even(), key=key, features=features)))
    seen = read(keys)
    x = np.asarray(seen.features[:, :, :-1]).reshape(-1, features.shape[-1])
    nodes = path_nodes(np.asarray(seen.action))[..., :-1]  # S B N-1

    def make(fitted: ThresholdBandit, knob: float) -> Policy:
        # The price falls from a tenth of a nat to nothing.
        price = jnp.asarray(0.1 * (1 - knob) ** 4, jnp.float32)
        return ThresholdBandit(fitted.weights, price)

    found: dict[str, Make] = {}
    for name, gains in (("next unit", oracle.step_gains(part.tree)), ("rest", returns(part.tree))):
        y = gains[np.arange(len(part))[None, :, None], nodes].reshape(-1, gains.shape[-1])
        found[name] = partial(make, ThresholdBandit.fit(x, y, ridge=RIDGE))
    return found


GATE = Method("inner-loss gate", partial(gates, "inner_loss"))
BANDIT = Method("bandit", bandit, features=True)
SIGNALS = (
    *(Method(kind.replace("_", " "), partial(thresholds, kind)) for kind in HEURISTICS),
    GATE,
    Method("delta gate", partial(gates, "delta")),
    Method("residual gate", partial(gates, "residual")),
)
"""Training-free: nothing is fitted but thresholds."""
