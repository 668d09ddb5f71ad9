"""What an experiment hands back: tidy tables and a few scalars, with the configuration."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Result:
    """The outcome of one experiment: everything a page shows is computed from it."""

    name: str
    config: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    scalars: dict[str, float | str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
