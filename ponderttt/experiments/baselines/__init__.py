"""Does adapting while reading help a frozen language model on held-out text?"""

from ponderttt.experiments.baselines.config import BaselinesConfig as BaselinesConfig
from ponderttt.experiments.baselines.run import run as run

CONFIG = BaselinesConfig
"""What a parameter file of this experiment must satisfy."""

MEANINGS = {
    "units": "a unit of a test document under a method: loss, tokens, steps and cost",
    "documents": "a test document under a method: loss, gain over SKIP, and mean cost a unit",
    "gains": "a method on a source, or on all: loss, cost, and gain over SKIP with its interval",
    "positions": "a method at a position in the document: gain over SKIP with its interval",
    "uniform": "a method on independent uniform tokens: its loss beside the floor ln V",
    "explorer": "a unit of a few test documents: its tokens and their losses under each action",
    "tuning": (
        "a rate and clip of the adapter, its gain on training or validation documents, and "
        "whether it was chosen"
    ),
    "training": (
        "a step of training the reconstruction layer: its loss, and at times that on "
        "validation documents"
    ),
}
"""What a row of each table is."""
