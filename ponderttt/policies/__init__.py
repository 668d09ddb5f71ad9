"""Who decides how many steps: every policy is `init(key) -> state` and `act(state, ...)`."""

from ponderttt.policies.policy import Fixed as Fixed
from ponderttt.policies.policy import Policy as Policy
from ponderttt.policies.policy import Random as Random
from ponderttt.policies.policy import best_mix as best_mix
