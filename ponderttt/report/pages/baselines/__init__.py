"""The baselines page: what `ponderttt.experiments.baselines` found, as tables, charts and claims.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats per token, positive where the loss is lower than the reference's.
"""

from ponderttt.report.pages.baselines.charts import explorer as explorer
from ponderttt.report.pages.baselines.charts import gain_against_cost as gain_against_cost
from ponderttt.report.pages.baselines.charts import gain_by_position as gain_by_position
from ponderttt.report.pages.baselines.charts import paired_differences as paired_differences
from ponderttt.report.pages.baselines.claims import claims as claims
from ponderttt.report.pages.baselines.tables import check as check
from ponderttt.report.pages.baselines.tables import conclusions as conclusions
from ponderttt.report.pages.baselines.tables import losses as losses
