"""Who decides how many steps: every policy is `init`, `reset` and `act` (see `Policy`)."""

from ponderttt.policies.actor_critic import ActorCritic as ActorCritic
from ponderttt.policies.features import FeatureExtractor as FeatureExtractor
from ponderttt.policies.gates import EMAGate as EMAGate
from ponderttt.policies.policy import Policy as Policy
from ponderttt.policies.policy import RandomPolicy as RandomPolicy
from ponderttt.policies.policy import SchedulePolicy as SchedulePolicy
from ponderttt.policies.policy import UniformPolicy as UniformPolicy
from ponderttt.policies.policy import best_mix as best_mix
from ponderttt.policies.regression import ThresholdBandit as ThresholdBandit
from ponderttt.policies.thresholds import EntropyBasedPolicy as EntropyBasedPolicy
from ponderttt.policies.thresholds import GradientNormBasedPolicy as GradientNormBasedPolicy
from ponderttt.policies.thresholds import LossBasedPolicy as LossBasedPolicy
from ponderttt.policies.thresholds import PerplexityBasedPolicy as PerplexityBasedPolicy
