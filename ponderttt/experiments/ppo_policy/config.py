"""Parameters of the ppo_policy experiment."""

from dataclasses import dataclass

from ponderttt.experiments.allocation import AllocationConfig
from ponderttt.experiments.checks import check_numbers
from ponderttt.experiments.contest import check_curve
from ponderttt.types import InputError


@dataclass(frozen=True)
class PPOPolicyConfig(AllocationConfig):
    """What to read in every way, and how long to learn; the first stream is the main one."""

    seeds: int = 2
    """Policies trained at each budget, side by side."""
    iterations: int = 4
    """Each takes 4 epochs of PPO on one rollout."""
    rollout: int = 48
    """Decisions collected in an iteration."""

    def __post_init__(self):
        super().__post_init__()
        check_curve(self.budgets, self.units)
        check_numbers(self, {"seeds": 1, "iterations": 2, "rollout": 4})
        if self.rollout % (4 * (self.units - 1)):
            raise InputError(
                f"rollout is {self.rollout}: expected a multiple of {4 * (self.units - 1)}, four "
                f"minibatches of the {self.units - 1} decisions of a document"
            )
