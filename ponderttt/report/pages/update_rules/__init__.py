"""The page of the update rules: what `ponderttt.experiments.update_rules` found.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats per token over the frozen base at the full window.
"""

from ponderttt.report.pages.update_rules.charts import by_cost as by_cost
from ponderttt.report.pages.update_rules.charts import by_depth as by_depth
from ponderttt.report.pages.update_rules.charts import by_position as by_position
from ponderttt.report.pages.update_rules.charts import by_rate as by_rate
from ponderttt.report.pages.update_rules.claims import check as check
from ponderttt.report.pages.update_rules.claims import claims as claims
from ponderttt.report.pages.update_rules.claims import conclusions as conclusions
from ponderttt.report.pages.update_rules.tables import costs as costs
from ponderttt.report.pages.update_rules.tables import diverged as diverged
from ponderttt.report.pages.update_rules.tables import finalists as finalists
from ponderttt.report.pages.update_rules.tables import gains as gains
from ponderttt.report.pages.update_rules.tables import stability as stability
from ponderttt.report.pages.update_rules.tables import variants as variants
