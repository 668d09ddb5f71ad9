"""Does a learned policy get more for the same price than random, gate and bandit?"""

from ponderttt.experiments.ppo_policy.config import PPOPolicyConfig as PPOPolicyConfig
from ponderttt.experiments.ppo_policy.run import run as run

CONFIG = PPOPolicyConfig
"""The parameters of the ppo_policy experiment; the defaults are the smoke preset."""
