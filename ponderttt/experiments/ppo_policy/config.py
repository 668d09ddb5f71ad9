"""Parameters of the ppo_policy experiment."""

from dataclasses import dataclass
from typing import Annotated

from ponderttt.allocation.calibration import check_curve
from ponderttt.allocation.learned import Learning
from ponderttt.allocation.stream import AllocationConfig
from ponderttt.checks import Bounds, Count
from ponderttt.errors import InputError


@dataclass(frozen=True)
class PPOPolicyConfig(AllocationConfig):
    """Whose allocations to evaluate, and how long to learn; the first stream is the main one."""

    seeds: Count = 2
    """Policies trained at each budget, side by side."""
    iterations: Annotated[int, Bounds(2)] = 4
    """Each takes 4 epochs of PPO on one rollout."""
    rollout: Annotated[int, Bounds(4)] = 48
    """Decisions collected in an iteration."""

    def __post_init__(self):
        super().__post_init__()
        check_curve(self.budgets, self.units)
        if self.rollout % (4 * (self.units - 1)):
            raise InputError(
                f"rollout is {self.rollout}: expected a multiple of {4 * (self.units - 1)}, four "
                f"minibatches of the {self.units - 1} decisions of a document"
            )

    @property
    def learning(self) -> Learning:
        """How each budget's policies are learned."""
        return Learning(self.seeds, self.iterations, self.rollout, self.seed)
