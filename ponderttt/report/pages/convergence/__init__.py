"""The convergence page: what `ponderttt.experiments.convergence` found.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats per token over the same slow weights without any step.
"""

from ponderttt.report.pages.convergence.charts import gain_by_steps as gain_by_steps
from ponderttt.report.pages.convergence.charts import gap_by_steps as gap_by_steps
from ponderttt.report.pages.convergence.charts import rate_by_condition as rate_by_condition
from ponderttt.report.pages.convergence.claims import claims as claims
from ponderttt.report.pages.convergence.tables import check as check
from ponderttt.report.pages.convergence.tables import conclusions as conclusions
from ponderttt.report.pages.convergence.tables import gains as gains
