"""Is there anything to gain from allocating? What the best allocation saves at equal cost."""

from ponderttt.experiments.oracle.config import OracleConfig as OracleConfig
from ponderttt.experiments.oracle.run import run as run

CONFIG = OracleConfig
