"""What is there to gain from choosing K for single tokens?"""

from ponderttt.experiments.token_oracle.config import TokenOracleConfig as TokenOracleConfig
from ponderttt.experiments.token_oracle.run import run as run

CONFIG = TokenOracleConfig
"""The parameters of the token oracle; the defaults are the smoke preset."""
