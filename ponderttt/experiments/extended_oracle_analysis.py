"""`oracle_analysis` with pictures: best K, difficulty against it, the Pareto frontier.

`python -m ponderttt.experiments.extended_oracle_analysis --max_batches 20 --sample_positions 64`
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ponderttt.experiments.command import run_module
from ponderttt.experiments.oracle_analysis import OracleAnalysisConfig
from ponderttt.experiments.oracle_analysis import run as run_analysis
from ponderttt.storage import writable_folder


@dataclass(frozen=True)
class ExtendedOracleConfig(OracleAnalysisConfig):
    """Every number of steps at sampled tokens, in tables and in pictures."""

    output_dir: Path = Path("outputs/oracle")
    """Where the tables go as CSV, and each picture as PNG and as a page."""


def run(config: ExtendedOracleConfig) -> dict[str, pd.DataFrame]:
    """Run, print, write tables and pictures; returns the tables by name."""
    # The one import upwards: the module is where its users look for it, drawing is the report's.
    from ponderttt.report.display import renderer
    from ponderttt.report.pages.token_oracle import charts as tokens

    folder = writable_folder(config.output_dir)
    tables = run_analysis(config)
    renderer.enable()
    charts = {
        "oracle_tokens": tokens.draw(tables),
        "difficulty": tokens.difficulty(tables["tokens"], tables["token_optimal"]),
    }
    for path in renderer.save_pictures(charts, folder):
        print(path)
    return tables


if __name__ == "__main__":
    run_module(ExtendedOracleConfig, run, __doc__)
