"""The price of a unit of cost at which a budget is met."""

from collections.abc import Callable

from ponderttt.errors import InputError

DOUBLINGS = 64
"""From a price of 1; a nat is a high price for a unit of cost."""
HALVINGS = 60


def bracket(spent: Callable[[float], float], budget: float) -> tuple[float, float]:
    """Prices next to each other between which `spent` falls to `budget`: (too low, high enough).

    `spent(price)` is a mean cost that falls as the price rises. By bisection, in a bounded number
    of steps; both prices are 0 where none has to be paid. A budget that is still exceeded at a
    price of 2^64 is an `InputError`.
    """
    low, high = 0.0, 1.0
    if spent(low) <= budget:
        return low, low
    for _ in range(DOUBLINGS):
        if spent(high) <= budget:
            break
        high *= 2
    else:
        raise InputError(
            f"a budget of {budget:g} a unit is infeasible: {spent(high):g} is spent at any price, "
            "expected a budget of that or more"
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > budget else (low, middle)
    return low, high
