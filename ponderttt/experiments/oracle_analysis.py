"""Every number of steps at sampled tokens of test documents: what the best of them would gain.

`python -m ponderttt.experiments.oracle_analysis --max_batches 10 --sample_positions 32`
"""

from dataclasses import dataclass
from typing import Any

from ponderttt.experiments.command import TableCommand, print_tables, run_module


@dataclass(frozen=True)
class OracleAnalysisConfig(TableCommand):
    """Train a small model on random steps, then try every K at sampled positions."""

    max_batches: int = 4
    """Batches of 8 test documents."""
    sample_positions: int = 32
    """Positions of each document."""
    train_steps: int = 100
    """Training steps of the model."""
    max_length: int = 128
    """Tokens of a document."""
    hidden_dim: int = 64
    """Width of the model."""
    num_layers: int = 4
    """Its blocks; those in the middle have TTT layers."""
    horizon: int = 32
    """Predictions that a position's steps are judged by."""
    source: str = "wikipedia"
    """wikipedia (from wheels); wikitext-2, wikitext-103, ptb (from the hub); or their folder."""
    seed: int = 0

    def experiment(self) -> Any:
        from ponderttt.experiments.token_oracle import TokenOracleConfig

        return self.ask(TokenOracleConfig, batch_size=8)


def run(config: OracleAnalysisConfig) -> Any:
    """Run the experiment and print three of its tables; with `output_dir` write all."""
    from ponderttt.experiments import token_oracle
    from ponderttt.experiments.token_oracle.tables import TITLES

    result = config.compute(lambda: token_oracle.run(config.experiment()))
    print_tables({title: result.tables[name] for name, title in TITLES.items()})
    return result


if __name__ == "__main__":
    run_module(run, __doc__)
