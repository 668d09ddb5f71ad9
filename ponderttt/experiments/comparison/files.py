"""What the comparison's command prints, and the files that the seeds' scripts write."""

import json
from pathlib import Path

from ponderttt.experiments.command import print_tables
from ponderttt.result import Result
from ponderttt.storage import write_text


def show(result: Result, folder: Path) -> None:
    """Print the methods and their differences with p-values, and write the files."""
    print(f"\nParameters: {result.scalars['num_params']:,} in every method")
    columns = ["method", "steps", "target", "test_loss", "perplexity", "uninformed_loss"]
    shown = result.tables["methods"][[*columns, "model_flops"]]
    print_tables(
        {"Methods (losses in nats a token)": shown},
        missing="no target, or no rival that knows as little",
    )
    if len(result.tables["tests"]):
        columns = ["method", "against", "mean", "low", "high", "seed_p", "wilcoxon_p", "holm_p"]
        title = "Difference of loss (nats a token, below zero is better; over seeds and documents)"
        print_tables({title: result.tables["tests"][columns]}, form=".4g", missing=_too_few(result))
    write_files(folder, result)
    print(f"\nResults: {folder}")


def _too_few(result: Result) -> str:
    """Why a difference has no interval or no p-value."""
    documents, seeds = int(result.scalars["test_documents"]), len(result.config["seeds"])
    return (
        f"an interval needs two test documents and a p-value two pairs, over seeds two seeds; here "
        f"are {documents} document{'s'[: documents > 1]} and {seeds} seed{'s'[: seeds > 1]}"
    )


def write_files(folder: Path, result: Result) -> None:
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
