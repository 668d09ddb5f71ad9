"""The repositories' page: what `ponderttt.experiments.repositories` found.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats per token over the frozen base at the full window.
"""

from ponderttt.report.pages.repositories.charts import by_position as by_position
from ponderttt.report.pages.repositories.charts import by_window as by_window
from ponderttt.report.pages.repositories.charts import explorer as explorer
from ponderttt.report.pages.repositories.charts import halves as halves
from ponderttt.report.pages.repositories.charts import tree as tree
from ponderttt.report.pages.repositories.claims import check as check
from ponderttt.report.pages.repositories.claims import claims as claims
from ponderttt.report.pages.repositories.claims import conclusions as conclusions
from ponderttt.report.pages.repositories.tables import gainers as gainers
from ponderttt.report.pages.repositories.tables import gains as gains
from ponderttt.report.pages.repositories.tables import kinds as kinds
from ponderttt.report.pages.repositories.tables import paired as paired
from ponderttt.report.pages.repositories.tables import repositories as repositories
