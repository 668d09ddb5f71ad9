"""The comparison page: what `ponderttt.experiments.comparison` found.

Every function takes the experiment's result and gives what a notebook cell displays.
"""

from ponderttt.report.pages.comparison.charts import allocation as allocation
from ponderttt.report.pages.comparison.charts import frontier as frontier
from ponderttt.report.pages.comparison.charts import training as training
from ponderttt.report.pages.comparison.charts import versus as versus
from ponderttt.report.pages.comparison.claims import check as check
from ponderttt.report.pages.comparison.claims import claims as claims
from ponderttt.report.pages.comparison.claims import conclusions as conclusions
from ponderttt.report.pages.comparison.strip import strip as strip
from ponderttt.report.pages.comparison.tables import efficiency as efficiency
from ponderttt.report.pages.comparison.tables import methods as methods
from ponderttt.report.pages.comparison.tables import tests as tests
