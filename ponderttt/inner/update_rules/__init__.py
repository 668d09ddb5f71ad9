"""Update rules of the inner loop: `init(fast) -> state`, `step(fast, gradient, state)`."""

from ponderttt.inner.update_rules.protocol import RuleState as RuleState
from ponderttt.inner.update_rules.protocol import UpdateRule as UpdateRule
from ponderttt.inner.update_rules.scaling import global_norm as global_norm
from ponderttt.inner.update_rules.sgd import SGD as SGD
