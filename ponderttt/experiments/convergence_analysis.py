"""The convergence experiment from the command line: K steps against their limit, and their worth.

`python -m ponderttt.experiments.convergence_analysis --k_values 1 2 4 8 16 --max_batches 2`
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ponderttt.checks import Count, Seed, check
from ponderttt.experiments.command import Device, run_module, use_device
from ponderttt.prepare.inputs import ModelName, SourceName
from ponderttt.storage import writable_folder


@dataclass(frozen=True)
class ConvergenceAnalysisConfig:
    """Compare inner steps by their distance to the limit and by the loss of what is read next."""

    k_values: tuple[Count, ...] = (1, 2, 4, 8, 16)
    """Inner steps a unit, ascending from 1."""
    max_batches: Count = 1
    """Test documents read of each source."""
    model: ModelName = "smollm2-135m"
    """A name that is known (tiny: a random model, in a minute), or a folder of safetensors."""
    sources: tuple[SourceName, ...] = ("packages",)
    """Named sources, or folders of files of your own."""
    units: Count = 8
    """Units read of each document."""
    unit_size: Count = 256
    """Tokens a unit, which is the model's attention window."""
    train_steps: Count = 10
    """Outer steps that each of the five reconstruction layers is trained for."""
    output_dir: Path | None = None
    """Where the tables go, as CSV."""
    device: Device | None = None
    """Backend; the default is whatever JAX finds."""
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        self.experiment()  # refuses what cannot be used

    def experiment(self):
        """The experiment that this asks for."""
        from ponderttt.experiments.convergence.config import ConvergenceConfig

        return ConvergenceConfig(
            model=self.model,
            sources=self.sources,
            test_documents=self.max_batches,
            units=self.units,
            unit_size=self.unit_size,
            train_steps=self.train_steps,
            k_values=self.k_values,
            seed=self.seed,
        )


def run(config: ConvergenceAnalysisConfig) -> dict[str, Any]:
    """Run, print the three tables, and with `output_dir` write them; returns them by name."""
    from ponderttt.experiments import convergence

    folder = writable_folder(config.output_dir) if config.output_dir else None
    use_device(config.device)
    tables = convergence.run(config.experiment()).tables
    per_k = tables["descents"].groupby("steps")[["gap", "expected", "excess"]].mean()
    rates = tables["made"].groupby("condition")[["measured", "theory"]].mean()
    worth = tables["gains"].drop(columns=["inner_loss"])
    shown = {
        "Distance to the limit after K steps (expected: from the spectrum)": per_k,
        "Rate of convergence on made problems (-log of the factor a step)": rates,
        "Loss of what is read next, and gain over no step (nats per token)": worth,
    }
    for title, table in shown.items():
        print(f"\n{title}\n{table.to_string(float_format=lambda x: f'{x:.4f}')}")
    if folder:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
        print(f"\nTables: {folder}")
    return dict(tables)


if __name__ == "__main__":
    run_module(ConvergenceAnalysisConfig, run, __doc__)
