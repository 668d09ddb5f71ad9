"""Update rules of the inner loop: `init(fast) -> state`, `step(fast, gradient, state)`."""

from ponderttt.inner.update_rules.adamw import AdamW as AdamW
from ponderttt.inner.update_rules.gather import Gather as Gather
from ponderttt.inner.update_rules.newton_schulz import NewtonSchulz as NewtonSchulz
from ponderttt.inner.update_rules.normalized import NormalizedGradient as NormalizedGradient
from ponderttt.inner.update_rules.protocol import RuleState as RuleState
from ponderttt.inner.update_rules.protocol import UpdateRule as UpdateRule
from ponderttt.inner.update_rules.rms import OnlineRMS as OnlineRMS
from ponderttt.inner.update_rules.rms import SumOfSquares as SumOfSquares
from ponderttt.inner.update_rules.scaling import global_norm as global_norm
from ponderttt.inner.update_rules.sgd import SGD as SGD
from ponderttt.inner.update_rules.table import RULES as RULES
from ponderttt.inner.update_rules.table import make_rule as make_rule
