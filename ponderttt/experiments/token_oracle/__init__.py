"""What is there to gain from choosing K for single tokens?"""

from ponderttt.experiments.token_oracle.config import TokenOracleConfig as TokenOracleConfig
from ponderttt.experiments.token_oracle.run import run as run

CONFIG = TokenOracleConfig
"""The parameters of the token oracle; the defaults are the smoke preset."""

MEANINGS = {
    "tokens": "a sampled position: its loss over the horizon under each K, and how hard it was",
    "token_optimal": "a number of steps on one token: how often it is best, and what it gains",
    "token_frontier": (
        "a mean number of steps a token: gain of the oracle, and of the same steps for all"
    ),
    "token_difficulty": "a measure of difficulty: its rank correlation with what steps gain",
}
"""What a row of each table is."""
