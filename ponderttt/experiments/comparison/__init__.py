"""Eight methods of giving steps to tokens, each with a model of its own, at equal cost."""

from ponderttt.experiments.comparison.config import ComparisonConfig as ComparisonConfig
from ponderttt.experiments.comparison.run import run as run

CONFIG = ComparisonConfig
"""What a parameter file of this experiment must satisfy."""

MEANINGS = {
    "methods": "a method: loss, steps and costs, means over seeds, with intervals by document",
    "tests": (
        "a method against a rival on the same seeds and documents: difference, intervals, "
        "tests and effect sizes"
    ),
    "documents": "a test document under a method and seed: tokens, loss and steps",
    "seeds": "a method and seed: loss, steps, and costs a token",
    "allocation": (
        "an option of a method, seed and TTT layer: the share of test tokens that take it"
    ),
    "history": (
        "a stretch of training under a method: loss, steps, entropy and price, means over seeds"
    ),
    "strip": "a token of one test window under a method: its loss and steps",
    "frontier": "a method in a ledger: cost, loss, and whether no other beats it in both",
    "efficiency": "a number of steps and a kind of fast weights: FLOPs and microseconds a token",
}
"""What a row of each table is."""
