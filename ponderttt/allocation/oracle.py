"""The oracle: the allocation that would have been best, chosen once all have been evaluated.

What a decision is worth shows on later units only, and depends on what is decided there, so the
oracle chooses among whole allocations: all of them on short documents (`Environment.allocations`),
those that a beam finds on longer ones (`environment.beam`, a lower bound on the oracle's gain).
Losses are nats a token, summed over units; costs are nominal, summed over units.
Axes: W allocations; the others as everywhere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ponderttt.environment.protocol import Allocations
from ponderttt.environment.walk import TreeEnvironment
from ponderttt.errors import InputError
from ponderttt.policies.budget import bracket
from ponderttt.types import CHUNK_ACTIONS, ActionSpace


class Chosen(NamedTuple):
    """What the oracle does at a budget: one value a document, means over its two solutions."""

    loss: Float[np.ndarray, "B"]
    cost: Float[np.ndarray, "B"]
    mix: Float[np.ndarray, "B N A"]
    """How often each action is taken at each unit."""
    price: float
    """Nats (a token, a unit) that a unit of cost is worth at this budget."""


def one_step(environment: TreeEnvironment, prices: Sequence[float]) -> Allocations:
    """For each price, the allocation that always takes what is best for the next unit alone.

    What a bandit with perfect knowledge of one step would do; W is the number of prices.
    """
    if not len(prices) or min(prices) < 0:
        raise InputError(f"prices {list(prices)}: expected one or more, none below 0")
    gains, costs = environment.node_gains("next"), environment.actions.costs
    value = gains[:, None] - np.multiply.outer(prices, costs)[:, None]
    return environment.follow(value.argmax(axis=-1))


def at_budget(
    found: Allocations, budget: float, units: int, actions: ActionSpace = CHUNK_ACTIONS
) -> Chosen:
    """The oracle of a stream: the price, by bisection, at which the documents cost `budget` a unit.

    Between the two solutions where the mean cost jumps over the budget, both are taken in the
    proportion that meets it exactly. A budget below the cheapest allocation is an `InputError`;
    one that nothing can spend to advantage is left unspent.
    """
    loss, cost = np.asarray(found.loss, float), np.asarray(found.cost, float) / units
    least = float(np.where(np.isfinite(loss), cost, np.inf).min(axis=1).mean())
    if not budget >= least - 1e-9:
        raise InputError(
            f"a budget of {budget:g} a unit is infeasible: the least feasible one is {least:g}"
        )
    budget = max(budget, least)  # a sum that was rounded down is no reason to search for ever

    def solve(price: float):
        return np.argmin(loss + price * units * cost + 1e-12 * cost, axis=1)

    rows = np.arange(len(loss))
    low, high = bracket(lambda price: float(cost[rows, solve(price)].mean()), budget)
    dear, cheap = solve(low), solve(high)
    above, below = cost[rows, dear].mean(), cost[rows, cheap].mean()
    share = 0.0 if above <= budget or above == below else (budget - below) / (above - below)
    taken = np.eye(len(actions.names))[np.asarray(found.action)]  # B W N A
    parts = [(share, dear), (1 - share, cheap)]
    return Chosen(
        sum(w * loss[rows, k] for w, k in parts),
        sum(w * cost[rows, k] for w, k in parts) * units,
        sum(w * taken[rows, k] for w, k in parts),
        high,
    )


def separable_gain(
    gains: Float[np.ndarray, "M A"], budget: float, actions: ActionSpace = CHUNK_ACTIONS
) -> float:
    """The most that units gain on average at `budget`, were their gains independent (nats a unit).

    The multiple-choice knapsack's linear relaxation, by its dual: the least over prices of
    `mean_m max_a (gain[m, a] - price * (cost_a - budget))`. It counts what an action gains on the
    next unit, not what it goes on to gain, so that it is a bound for one-step decisions only.
    """
    gains, costs = np.asarray(gains, float), np.asarray(actions.costs)
    if not budget >= costs.min():
        raise InputError(
            f"a budget of {budget:g} a unit is infeasible: the least feasible one is "
            f"{costs.min():g}"
        )
    # Convex and piecewise linear in the price: its kinks are where two actions tie.
    first, second = np.triu_indices(len(costs), 1)
    kinks = (gains[:, second] - gains[:, first]) / (costs[second] - costs[first])
    prices = np.unique(np.concatenate([[0.0], kinks[kinks > 0]]))
    low, high = 0, len(prices) - 1

    def value(i: int) -> float:
        return float((gains - prices[i] * (costs - budget)).max(axis=1).mean())

    while high - low > 2:
        third = (high - low) // 3
        if value(low + third) <= value(high - third):
            high -= third
        else:
            low += third
    return min(value(i) for i in range(low, high + 1))
