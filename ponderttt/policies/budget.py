"""The price of a unit of cost at which a budget is met."""

from collections.abc import Callable


def bracket(spent: Callable[[float], float], budget: float) -> tuple[float, float]:
    """Prices next to each other between which `spent` falls to `budget`: (too low, high enough).

    `spent(price)` is a mean cost that falls as the price rises. By bisection; both are 0 where no
    price has to be paid.
    """
    low, high = 0.0, 1.0
    if spent(low) <= budget:
        return low, low
    while spent(high) > budget:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > budget else (low, middle)
    return low, high
