"""What do training-free signals capture of what there is to gain, in and out of distribution?"""

from ponderttt.experiments.gating.config import GatingConfig as GatingConfig
from ponderttt.experiments.gating.run import derive as derive
from ponderttt.experiments.gating.run import run as run

CONFIG = GatingConfig
"""The parameters of the gating experiment; the defaults are the smoke preset."""

MEANINGS = {
    "points": (
        "a method, budget and candidate: what it cost and lost on validation and on test "
        "documents, and whether it was chosen"
    ),
    "frontier": (
        "a point of the oracle's curve, or an action taken on every unit: mean cost and loss"
    ),
    "documents": "a test document under a method at a budget: its loss, gain and cost",
    "gaps": (
        "a method at a budget: the share of the gap from control to oracle that it "
        "captures, with its interval and test"
    ),
    "signals": (
        "a signal on a source: its rank correlation with what an update gains, with its interval"
    ),
    "calibration": (
        "a threshold: the share of units it was set to update, and the share that it does "
        "on test documents"
    ),
    "drift": "a test document: the threshold and the running share before it",
    "unit_costs": "an action: what it costs a unit in each ledger",
    "tuning": (
        "a rate and clip of the adapter, its gain on training or validation documents, and "
        "whether it was chosen"
    ),
}
"""What a row of each table is."""
