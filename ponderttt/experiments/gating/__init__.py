"""What do training-free signals capture of what there is to gain, in and out of distribution?"""

from ponderttt.experiments.gating.config import GatingConfig as GatingConfig
from ponderttt.experiments.gating.run import run as run

CONFIG = GatingConfig
"""The parameters of the gating experiment; the defaults are the smoke preset."""
