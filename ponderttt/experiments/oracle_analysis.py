"""Every number of steps at sampled tokens of test documents: what the best of them would gain.

`python -m ponderttt.experiments.oracle_analysis --max_batches 10 --sample_positions 32`
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ponderttt.checks import check
from ponderttt.experiments.command import Device, run_module, use_device
from ponderttt.experiments.token_oracle.run import TokenOracleConfig
from ponderttt.experiments.token_oracle.run import run as run_tokens
from ponderttt.storage import writable_folder

TITLES = {
    "token_optimal": "How often each K is best, and its gain over K4 (nats over the horizon)",
    "token_difficulty": "Rank correlation with the loss of the token just read (95 % by document)",
    "token_frontier": "The most that a mean K can gain over K4, and the same K for all positions",
}


@dataclass(frozen=True)
class OracleAnalysisConfig:
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
    output_dir: Path | None = None
    """Where the tables go, as CSV."""
    device: Device | None = None
    """Backend; the default is whatever JAX finds."""

    def __post_init__(self):
        check(self)
        self.experiment()  # refuses what cannot be used

    def experiment(self) -> TokenOracleConfig:
        """The experiment that this asks for."""
        return TokenOracleConfig(
            max_batches=self.max_batches, sample_positions=self.sample_positions,
            train_steps=self.train_steps, batch_size=8, max_length=self.max_length,
            hidden_dim=self.hidden_dim, num_layers=self.num_layers, horizon=self.horizon,
            source=self.source, seed=self.seed,
        )  # fmt: skip


def run(config: OracleAnalysisConfig) -> dict[str, pd.DataFrame]:
    """Run, print three tables, and with `output_dir` write all; returns them by name."""
    folder = writable_folder(config.output_dir) if config.output_dir else None
    use_device(config.device)
    tables = run_tokens(config.experiment())
    for name, title in TITLES.items():
        text = tables[name].to_string(index=False, float_format=lambda x: f"{x:.4f}")
        print(f"\n{title}\n{text}")
    if folder:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
        print(f"\nTables: {folder}")
    return tables


if __name__ == "__main__":
    run_module(OracleAnalysisConfig, run, __doc__)
