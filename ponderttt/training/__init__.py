"""The outer loop: slow weights, trained through the inner loop."""

from ponderttt.training.trainer import TrainerConfig as TrainerConfig
from ponderttt.training.trainer import TrainResult as TrainResult
from ponderttt.training.trainer import TTTTrainer as TTTTrainer
