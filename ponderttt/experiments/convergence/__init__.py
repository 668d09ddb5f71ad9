"""Do more inner steps help, and what do they converge to?"""

from ponderttt.experiments.convergence.config import ConvergenceConfig as ConvergenceConfig
from ponderttt.experiments.convergence.run import run as run

CONFIG = ConvergenceConfig
"""What a parameter file of this experiment must satisfy."""

MEANINGS = {
    "made": "a step on a made problem: the gap left, beside theory",
    "descents": (
        "a number of steps on a test document: the gap to the limit, means over units and heads"
    ),
    "outer": (
        "a test document read at a number of steps: loss on the text that follows, and inner loss"
    ),
    "gains": (
        "an objective, training, direction and number of steps: loss, and gain over no "
        "step with its interval"
    ),
    "tuning": (
        "a rate and clip of the adapter, its gain on training or validation documents, and "
        "whether it was chosen"
    ),
    "training": "a step of training a layer: its loss, and at times that on validation documents",
}
"""What a row of each table is."""
