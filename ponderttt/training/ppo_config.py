"""What steers PPO: how long it learns, how far it may move, what it weighs."""

from dataclasses import dataclass, field

from ponderttt.checks import Count, NonNegative, Positive, Share, check
from ponderttt.errors import InputError
from ponderttt.models.policy_network import PolicyNetworkConfig
from ponderttt.training.pid import PIDConfig
from ponderttt.types import CHUNK_ACTIONS, ActionSpace


@dataclass(frozen=True)
class PPOConfig:
    """How to learn. `budget` is the mean cost per unit that the policy may spend."""

    iterations: Count = 10
    budget: Positive = 3.125
    clip: Positive = 0.2
    epochs: Count = 4
    minibatches: Count = 4
    discount: Share = 0.99
    gae_decay: Share = 0.95
    value_weight: NonNegative = 0.5
    entropy_weight: NonNegative = 0.01
    rate: Positive = 3e-3
    max_norm: Positive = 0.5
    network: PolicyNetworkConfig = field(default_factory=PolicyNetworkConfig)
    pid: PIDConfig = field(default_factory=PIDConfig)
    actions: ActionSpace = CHUNK_ACTIONS

    def __post_init__(self):
        check(self)
        count, cheapest = len(self.actions.names), min(self.actions.costs)
        if self.network.actions != count:
            raise InputError(
                f"the network chooses among {self.network.actions} actions, the action space has "
                f"{count} ({', '.join(self.actions.names)}): give network.actions={count}"
            )
        if self.budget < cheapest:
            name = self.actions.names[self.actions.costs.index(cheapest)]
            raise InputError(
                f"budget {self.budget:g} a unit cannot be met: {name}, the cheapest action, costs "
                f"{cheapest:g}, so the least feasible budget is {cheapest:g}"
            )
