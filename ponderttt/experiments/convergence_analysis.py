"""The convergence experiment from the command line: K steps against their limit, and their worth.

`python -m ponderttt.experiments.convergence_analysis --k_values 1 2 4 8 16 --max_batches 2`
"""

from dataclasses import dataclass, replace
from typing import Any

from ponderttt.checks import Count, Seed
from ponderttt.experiments.command import TableCommand, print_tables, run_module
from ponderttt.experiments.config import SCALES, Scale
from ponderttt.prepare.inputs import ModelName, SourceName


@dataclass(frozen=True)
class ConvergenceAnalysisConfig(TableCommand):
    """Compare inner steps by their distance to the limit and by the loss of what is read next."""

    k_values: tuple[Count, ...] = (1, 2, 4, 8, 16)
    """Inner steps a unit, ascending from 1."""
    max_batches: Count = 1
    """Test documents read of each source."""
    model: ModelName = "smollm2-135m"
    """A name that is known (tiny: a random model, in a minute), or a folder of safetensors."""
    model_scale: Scale | None = None
    """GPT-2's scales, in place of `model`: gpt2, gpt2-medium, gpt2-large."""
    sources: tuple[SourceName, ...] = ("packages",)
    """Named sources, or folders of files of your own."""
    units: Count = 8
    """Units read of each document."""
    unit_size: Count = 256
    """Tokens a unit, which is the model's attention window."""
    train_steps: Count = 10
    """Outer steps that each of the five reconstruction layers is trained for."""
    seed: Seed = 0

    def experiment(self) -> Any:
        from ponderttt.experiments.convergence import ConvergenceConfig

        config = self.ask(ConvergenceConfig, test_documents=self.max_batches)
        if self.model_scale is None:
            return config
        return replace(config, model=SCALES[self.model_scale]().model.model_name)


def run(config: ConvergenceAnalysisConfig) -> Any:
    """Run the experiment and print three of its tables; with `output_dir` write all."""
    from ponderttt.experiments import convergence

    result = config.compute(lambda: convergence.run(config.experiment()))
    tables, shown = result.tables, {}
    per_k = tables["descents"].groupby("steps")[["gap", "expected", "excess"]].mean()
    shown["Distance to the limit after K steps (expected: from the spectrum)"] = per_k
    rates = tables["made"].groupby("condition")[["measured", "theory"]].mean()
    shown["Rate of convergence on made problems (-log of the factor a step)"] = rates
    worth = tables["gains"].drop(columns=["inner_loss"])
    shown["Loss of what is read next, and gain over no step (nats per token)"] = worth
    print_tables(shown, index=True)
    return result


if __name__ == "__main__":
    run_module(run, __doc__)
