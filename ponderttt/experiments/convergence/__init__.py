"""Do more inner steps help, and what do they converge to?"""

from ponderttt.experiments.convergence.config import ConvergenceConfig as ConvergenceConfig
from ponderttt.experiments.convergence.run import run as run

CONFIG = ConvergenceConfig
"""What a parameter file of this experiment must satisfy."""
