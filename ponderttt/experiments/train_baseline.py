"""One fixed action over some chunks of text: the quickest look at what updating does.

`python -m ponderttt.experiments.train_baseline --model_scale 125m --action SKIP --num_chunks 10`
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ponderttt.checks import Count, NonNegative, Seed, check
from ponderttt.experiments.command import TextCommand, run_module, write_results

if TYPE_CHECKING:
    from ponderttt.models.decoder.lm import TransformerLM


@dataclass(frozen=True)
class TrainBaselineConfig(TextCommand):
    """Read chunks of text under one fixed action and print the loss of each, scored first."""

    action: Literal["SKIP", "UPDATE_1", "UPDATE_2", "UPDATE_4"] = "SKIP"
    """Steps taken after each chunk: none, 1, 2 or 4 (nominal costs 1, 3, 5, 12)."""
    num_chunks: Count = 10
    """How many chunks to read, from as many documents as that takes; or all that there are."""
    chunk_size: Count = 512
    """Tokens per chunk, which is the model's attention window."""
    max_chunks_per_document: Count = 8
    """Fast weights start afresh with each document."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Which documents: nothing is trained or tuned on any. A folder's own train, validation and
    test folders are its splits; without them, fewer than 20 files are all test."""
    rate: NonNegative = 1.0
    """Inner rate of the additive map on the last hidden state (next-token objective)."""
    seed: Seed = 0

    def __post_init__(self):
        check(self)


def run(config: TrainBaselineConfig) -> dict:
    """Read, printing as it goes; returns (and with `output_dir` writes) the results."""
    from ponderttt.experiments.baselines.chunks import plan_chunks, read_chunks
    from ponderttt.training.finite import NotFinite

    folder, said = config.open_folder(config.action), config.show_source(config.split)
    lm = config.load()
    plan = plan_chunks(
        lm, config.text, split=config.split, chunks=config.num_chunks, size=config.chunk_size,
        per_document=config.max_chunks_per_document, seed=config.seed,
    )  # fmt: skip
    if plan.chunks < config.num_chunks:
        print(
            f"{plan.chunks} chunks of {config.chunk_size} tokens are read, not {config.num_chunks}:"
            f" {plan.per_document} of each document that has so many"
        )
    print(f"Running {config.action} baseline...")
    chunks = read_chunks(
        lm, config.text, config.action, chunks=plan.chunks, size=config.chunk_size,
        per_document=plan.per_document, rate=config.rate, seed=config.seed, split=config.split,
    )  # fmt: skip
    losses: list[float] = []
    costs: list[float] = []
    try:
        for i, (loss, cost) in enumerate(chunks, start=1):
            print(f"Chunk {i}/{plan.chunks}: loss={loss:.3f}", flush=True)
            losses.append(loss)
            costs.append(cost)
    except NotFinite:
        if losses:
            _finish(config, lm, said, losses, costs, folder)
        raise
    return _finish(config, lm, said, losses, costs, folder)


def _finish(
    config: TrainBaselineConfig, lm: "TransformerLM", read: str, losses: list[float],
    costs: list[float], folder: Path | None,
) -> dict:  # fmt: skip
    """Print and write what was read; fewer chunks than asked for where a loss was not finite."""
    mean, total = sum(losses) / len(losses), sum(costs)
    print(f"Average loss: {mean:.3f}\nTotal cost: {total:.1f} ({costs[0]:g} a chunk)")
    result = {
        "config": config.stated(lm), "read": read, "chunk_losses": losses,
        "average_loss": mean, "total_cost": total,
    }  # fmt: skip
    write_results(folder, result)
    return result


if __name__ == "__main__":
    run_module(run, __doc__)
