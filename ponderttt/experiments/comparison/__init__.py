"""Eight ways of giving steps to tokens, each with a model of its own, at equal cost."""

from ponderttt.experiments.comparison.config import ComparisonConfig as ComparisonConfig
from ponderttt.experiments.comparison.run import run as run

CONFIG = ComparisonConfig
"""What a parameter file of this experiment must satisfy."""
