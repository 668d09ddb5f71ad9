"""The gating page: what `ponderttt.experiments.gating` found.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats per token; costs are nominal, a unit.
"""

from ponderttt.report.display.equal_cost import frontier as frontier
from ponderttt.report.display.equal_cost import gap_chart as gap_chart
from ponderttt.report.display.equal_cost import gap_table as gap_table
from ponderttt.report.display.equal_cost import ledger_table as ledger_table
from ponderttt.report.pages.gating.charts import calibration as calibration
from ponderttt.report.pages.gating.charts import drift as drift
from ponderttt.report.pages.gating.charts import signals as signals
from ponderttt.report.pages.gating.claims import check as check
from ponderttt.report.pages.gating.claims import claims as claims
from ponderttt.report.pages.gating.claims import conclusions as conclusions
