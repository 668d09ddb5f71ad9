"""The ppo_policy page: what `ponderttt.experiments.ppo_policy` found.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats per token; costs are nominal, a unit.
"""

from ponderttt.report.display.equal_cost import gap_chart as gap_chart
from ponderttt.report.display.equal_cost import gap_table as gap_table
from ponderttt.report.display.equal_cost import ledger_table as ledger_table
from ponderttt.report.pages.ppo_policy.charts import ablation as ablation
from ponderttt.report.pages.ppo_policy.charts import budget as budget
from ponderttt.report.pages.ppo_policy.charts import frontier as frontier
from ponderttt.report.pages.ppo_policy.charts import learning as learning
from ponderttt.report.pages.ppo_policy.claims import check as check
from ponderttt.report.pages.ppo_policy.claims import claims as claims
from ponderttt.report.pages.ppo_policy.claims import conclusions as conclusions
from ponderttt.report.pages.ppo_policy.strip import strip as strip
from ponderttt.report.pages.ppo_policy.tables import budgets as budgets
from ponderttt.report.pages.ppo_policy.tables import versus as versus
