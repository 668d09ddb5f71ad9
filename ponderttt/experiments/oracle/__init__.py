"""Is there anything to gain from allocating? What the best allocation saves at equal cost."""

from ponderttt.experiments.oracle.config import OracleConfig as OracleConfig
from ponderttt.experiments.oracle.run import derive as derive
from ponderttt.experiments.oracle.run import run as run

CONFIG = OracleConfig

MEANINGS = {
    "documents": (
        "a method, budget and test document: loss, cost and steps at exactly the budget; `priced` "
        "is charged for cost beyond it"
    ),
    "available": (
        "a source, or all, at a budget: what the oracle gains over the control at equal "
        "cost, with its interval"
    ),
    "frontier": "a point of a method's curve: mean cost and loss",
    "fixed": "an action on every unit, by source: gain over SKIP with its interval",
    "allocations": (
        "an action at a position in the document, by source and budget: how often the "
        "oracle takes it"
    ),
    "correlations": (
        "a feature: its rank correlation with the oracle's steps or the next unit's gain, "
        "with its interval"
    ),
    "one_step": "a budget: what one-step gains would be worth by themselves",
    "controls": "an uninformed policy tried at a budget: cost and loss, and whether it was chosen",
    "tuning": (
        "a rate and clip of the adapter, its gain on training or validation documents, and "
        "whether it was chosen"
    ),
}
"""What a row of each table is."""
