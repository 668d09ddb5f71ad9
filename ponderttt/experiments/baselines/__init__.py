"""Does adapting while reading help a frozen language model on held-out text?"""

from ponderttt.experiments.baselines.config import BaselinesConfig as BaselinesConfig
from ponderttt.experiments.baselines.run import run as run

CONFIG = BaselinesConfig
"""What a parameter file of this experiment must satisfy."""
