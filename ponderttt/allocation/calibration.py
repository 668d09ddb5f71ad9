"""Policies calibrated to the same budgets on validation documents, and evaluated on test documents.

Every method meets each budget by one level of its own (a share, a price), found by bisection on
the validation documents. What it then costs on the test documents is another matter: `equal_cost`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ponderttt.allocation.stream import AllocationTask, Split, by_source
from ponderttt.environment.walk import TreeEnvironment, node_units
from ponderttt.errors import InputError
from ponderttt.policies import Policy
from ponderttt.types import CHUNK_ACTIONS

CURVE = (1.5, 1.75, 2.0, 2.3, 2.7, 3.125, 3.6, 4.2, 5.0, 5.8, 6.8)
"""Mean costs a unit at which every method is calibrated: its cost curve."""


def check_curve(budgets: Sequence[float], units: int) -> None:
    """An `InputError` for a budget off the cost curve, or documents too short for the curve."""
    if units < 3:
        raise InputError(f"units is {units}: expected 3 or more, for costs of up to {CURVE[-1]:g}")
    for budget in budgets:
        if not CURVE[0] < budget < CURVE[-1]:
            raise InputError(
                f"a budget of {budget:g} a unit is off the cost curves: expected more than "
                f"{CURVE[0]:g} and less than {CURVE[-1]:g}"
            )


GRADIENT = CHUNK_ACTIONS.costs[1] - CHUNK_ACTIONS.costs[0]
"""Nominal cost of one gradient."""


class Outcome(NamedTuple):
    """What a policy got from each document: nats a token, nominal cost, steps; means over units."""

    loss: Float[np.ndarray, "*policies B"]
    cost: Float[np.ndarray, "*policies B"]
    steps: Float[np.ndarray, "*policies B"]


def outcome(measured: Sequence[Array], count: int) -> Outcome:
    """What was measured on a device of the first `count` documents, in float64 on the host."""
    return Outcome(*(np.asarray(x, float)[..., :count] for x in measured))


def evaluate(part: Split, policy: Policy) -> Outcome:
    """`policy`, which does not draw, on the documents of `part`."""
    stacked = jax.tree.map(lambda x: jnp.asarray(x)[None], policy)
    return Outcome(*(x[0] for x in evaluate_batch(part, stacked)))


def evaluate_batch(part: Split, policies: Policy) -> Outcome:
    """Several policies of a kind, none of which draws; their leaves are stacked [P, ...]."""
    return outcome(_evaluate(part.padded, policies), len(part))


@jax.jit
def _evaluate(environment: TreeEnvironment, policies: Policy):
    def one(policy):
        found = environment.run(policy, key=jax.random.key(0))
        cost, steps = found.cost, found.steps
        if "gradient_norm" in policy.needs:  # a gradient that is looked at is paid for, used or not
            decides = jnp.arange(cost.shape[-1])[None] < environment.num_decisions
            unused = decides & (steps == 0)
            cost, steps = jnp.where(unused, cost + GRADIENT, cost), jnp.where(unused, 1, steps)
        return found.nll.mean(axis=-1), cost.mean(axis=-1), steps.mean(axis=-1)

    if not jax.tree.leaves(policies):
        return jax.tree.map(lambda x: x[None], one(policies))
    return jax.vmap(one)(policies)


def expected_outcome(part: Split, probabilities: Float[np.ndarray, "N A"]) -> Outcome:
    """What is expected where unit n draws its action with `probabilities[n]`: exact."""
    at_nodes = np.asarray(probabilities, np.float32)[node_units(part.environment.num_units)]
    return outcome(_expected(part.padded, at_nodes), len(part))


@jax.jit
def _expected(environment: TreeEnvironment, probabilities: Float[Array, "E A"]):
    table = jnp.broadcast_to(probabilities, (environment.num_documents, *probabilities.shape))
    return environment.expected(table)


def decision_budget(task: AllocationTask, budget: float) -> float:
    """What a unit that decides may cost where all units may cost `budget`.

    Nothing is decided about the last one, which takes the cheapest action.
    """
    n, least = task.units, CHUNK_ACTIONS.costs[0]
    return (n * budget - least) / (n - 1)


PolicyFactory = Callable[[float], Policy]
"""A policy from its level, 0 to 1; the cost rises with it."""


@dataclass(frozen=True)
class PolicyFamily:
    """A method: candidates, each with a level, among which the validation documents choose.

    None of them draws.
    """

    name: str
    candidates: Callable[[AllocationTask], Mapping[str, PolicyFactory]]


class Calibrated(NamedTuple):
    """A candidate at one budget, and what it did on the documents of either kind."""

    method: str
    candidate: str
    budget: float
    validation: Outcome
    test: Outcome


def bisect_to_budgets(
    spent: Callable[[Float[np.ndarray, "*policies"]], Float[np.ndarray, "*policies"]],
    budgets: Float[np.ndarray, "*policies"],
) -> Float[np.ndarray, "*policies"]:
    """The levels at which the mean costs are `budgets`, all by bisection at once.

    Costs that jump, or do not quite rise, are met by the nearest one that was seen.
    """
    low, high = np.zeros(budgets.shape), np.ones(budgets.shape)
    best, nearest = low, np.full(budgets.shape, np.inf)
    for _ in range(14):
        middle = (low + high) / 2
        cost = spent(middle)
        over, miss = cost > budgets, np.abs(cost - budgets)
        best, nearest = np.where(miss < nearest, middle, best), np.minimum(miss, nearest)
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return best


def calibrate(
    task: AllocationTask, family: PolicyFamily, budgets: Sequence[float] = CURVE
) -> list[Calibrated]:
    """Every candidate at every budget."""
    valid, test = (partial(evaluate_batch, part) for part in (task.validation, task.test))

    def stacked(make: PolicyFactory, levels: np.ndarray) -> Policy:
        made = [make(float(level)) for level in levels]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *made)

    found = []
    for name, make in family.candidates(task).items():

        def spent(levels, make=make):
            return valid(stacked(make, levels)).cost.mean(axis=-1)

        policies = stacked(make, bisect_to_budgets(spent, np.asarray(budgets)))
        outcomes = valid(policies), test(policies)
        for i, budget in enumerate(budgets):
            each = [Outcome(*(x[i] for x in part)) for part in outcomes]
            found.append(Calibrated(family.name, name, budget, *each))
    return found


def best_first(task: AllocationTask, found: Sequence[Calibrated]) -> list[Calibrated]:
    """By method and budget, the best on validation documents first.

    Candidates whose cost there stays more than 3 % from the budget come last.
    """

    def rank(each: Calibrated):
        miss = abs(float(each.validation.cost.mean()) - each.budget) / each.budget > 0.03
        return each.budget, miss, by_source(each.validation.loss, task.validation.texts)

    turn = list(dict.fromkeys(each.method for each in found))
    return sorted(found, key=lambda each: (turn.index(each.method), *rank(each)))


def uniform_gains(part: Split) -> Float[np.ndarray, "A"]:
    """Mean gain over SKIP of each action on every unit, nats a token."""
    losses = [each.loss for each in uniform_outcomes(part).values()]
    return np.array([by_source(losses[0] - loss, part.texts) for loss in losses])


def uniform_outcomes(part: Split) -> dict[str, Outcome]:
    """What each action does where all units take it: looked up, with nothing to compile."""
    names, environment = CHUNK_ACTIONS.names, part.environment
    shape = (len(part), len(names), environment.tree.entropy.shape[1])
    found = environment.follow(np.broadcast_to(np.arange(len(names))[None, :, None], shape))
    steps = np.asarray(CHUNK_ACTIONS.steps)[np.asarray(found.action)].sum(axis=-1)
    each = Outcome(*(np.asarray(x, float) / environment.num_units for x in (*found[:2], steps)))
    return {name: Outcome(*(x[:, a] for x in each)) for a, name in enumerate(names)}
