"""The token oracle's page: what `ponderttt.experiments.token_oracle` found.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats over the horizon, beside the reference K4 at the same position.
"""

from ponderttt.report.pages.token_oracle.charts import best_steps as best_steps
from ponderttt.report.pages.token_oracle.charts import correlations as correlations
from ponderttt.report.pages.token_oracle.charts import frontier as frontier
from ponderttt.report.pages.token_oracle.claims import check as check
from ponderttt.report.pages.token_oracle.claims import claims as claims
from ponderttt.report.pages.token_oracle.claims import conclusions as conclusions
from ponderttt.report.pages.token_oracle.tables import options as options
