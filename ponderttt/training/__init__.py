"""The outer loop: slow weights, trained through the inner loop."""

from ponderttt.training.adapter import TrainerConfig as TrainerConfig
from ponderttt.training.adapter import TrainResult as TrainResult
from ponderttt.training.adapter import TTTTrainer as TTTTrainer
from ponderttt.training.pid import PIDConfig as PIDConfig
from ponderttt.training.policy_trainer import PolicyTrainer as PolicyTrainer
from ponderttt.training.ppo import PIDLagrangianPPO as PIDLagrangianPPO
from ponderttt.training.ppo import PPOConfig as PPOConfig
from ponderttt.training.ppo import PPOResult as PPOResult
from ponderttt.training.ppo import Trajectories as Trajectories
