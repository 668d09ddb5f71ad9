"""The oracle page: what `ponderttt.experiments.oracle` found.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats per token; costs are nominal, a unit.
"""

from ponderttt.report.pages.oracle.charts import allocation as allocation
from ponderttt.report.pages.oracle.charts import frontier as frontier
from ponderttt.report.pages.oracle.charts import gain_by_document as gain_by_document
from ponderttt.report.pages.oracle.charts import who_gains as who_gains
from ponderttt.report.pages.oracle.claims import claims as claims
from ponderttt.report.pages.oracle.tables import available as available
from ponderttt.report.pages.oracle.tables import check as check
from ponderttt.report.pages.oracle.tables import conclusions as conclusions
from ponderttt.report.pages.oracle.tables import fixed as fixed
