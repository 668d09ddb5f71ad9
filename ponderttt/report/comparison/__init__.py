"""The comparison page: what `ponderttt.experiments.comparison` found.

Every function takes the experiment's result and gives what a notebook cell displays.
"""

from ponderttt.report.comparison.charts import allocation as allocation
from ponderttt.report.comparison.charts import frontier as frontier
from ponderttt.report.comparison.charts import training as training
from ponderttt.report.comparison.charts import versus as versus
from ponderttt.report.comparison.claims import check as check
from ponderttt.report.comparison.claims import claims as claims
from ponderttt.report.comparison.claims import conclusions as conclusions
from ponderttt.report.comparison.strip import strip as strip
from ponderttt.report.comparison.tables import efficiency as efficiency
from ponderttt.report.comparison.tables import methods as methods
from ponderttt.report.comparison.tables import tests as tests
