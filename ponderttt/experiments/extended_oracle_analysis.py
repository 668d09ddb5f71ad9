"""`oracle_analysis` with pictures: best K, difficulty against it, the Pareto frontier.

`python -m ponderttt.experiments.extended_oracle_analysis --max_batches 20 --sample_positions 64`
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ponderttt.experiments.command import run_module
from ponderttt.experiments.oracle_analysis import OracleAnalysisConfig
from ponderttt.experiments.oracle_analysis import run as run_analysis


@dataclass(frozen=True)
class ExtendedOracleConfig(OracleAnalysisConfig):
    """Every number of steps at sampled tokens, in tables and in pictures."""

    output_dir: Path = Path("outputs/oracle")
    """Where the tables go as CSV, and each picture as PNG and as a page."""


def run(config: ExtendedOracleConfig) -> Any:
    """Run, print, write tables and pictures; gives the result."""
    # The one import upwards: the module is where its users look for it, drawing is the report's.
    from ponderttt.report.display import renderer
    from ponderttt.report.pages.token_oracle import charts

    result = run_analysis(config)
    renderer.enable()
    pictures = {
        "oracle_tokens": charts.best_steps(result),
        "frontier": charts.frontier(result),
        "difficulty": charts.by_difficulty(result),
    }
    for path in renderer.save_pictures(pictures, config.output_dir):
        print(path)
    return result


if __name__ == "__main__":
    run_module(run, __doc__)
