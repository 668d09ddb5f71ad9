"""One fixed action over some chunks of text: the quickest look at what updating does.

`python -m ponderttt.experiments.train_baseline --model_scale 125m --action SKIP --num_chunks 10`
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ponderttt.checks import Count, Natural, Positive, Seed, check
from ponderttt.errors import InputError
from ponderttt.experiments.command import TextCommand, run_module, write_results

if TYPE_CHECKING:
    from ponderttt.models.adapters.protocol import Adapter
    from ponderttt.models.decoder.lm import TransformerLM


@dataclass(frozen=True)
class TrainBaselineConfig(TextCommand):
    """Read chunks of text under one fixed action and print the loss of each, scored first."""

    action: Literal["SKIP", "UPDATE_1", "UPDATE_2", "UPDATE_4"] = "SKIP"
    """Steps taken after each chunk: none, 1, 2 or 4 (nominal costs 1, 3, 5, 12)."""
    num_chunks: Count = 10
    """How many chunks to read, from as many documents as that takes; or all that there are."""
    chunk_size: Count = 512
    """Tokens per chunk: after each there may be steps. Without `window` it is the model's too."""
    window: Natural | None = None
    """With it the source is read as a repository: file by file in the order of their paths, each
    token predicted from up to so many tokens before it in its file (0: all that the model was
    trained for), and fast weights carried on. A folder of your own is one repository; of a named
    source one is chosen by `seed`."""
    reset: Literal["repository", "file"] | None = None
    """Where fast weights start afresh, with `window`: never, or with each file."""
    max_chunks_per_document: Count = 8
    """Fast weights start afresh with each document."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Which documents: nothing is trained or tuned on any. A folder's own train, validation and
    test folders are its splits; without them, fewer than 20 files are all test."""
    rule: Literal["sgd", "normalized", "rms", "adamw", "newton_schulz"] = "sgd"
    """How a gradient becomes a step (next-token objective): plain, of norm 1, by the running root
    mean square of each weight's gradients, AdamW without momentum, or orthogonalised."""
    rate: Positive | None = None
    """Inner rate; by default one that is gentle with the rule."""
    suffix_blocks: Natural | None = None
    """What learns: additions to the MLPs of so many of the last blocks, or with 0 a map on the last
    hidden state. By default 0 with sgd, 4 with other rules."""
    lora: bool = False
    """Low-rank additions to every product of those blocks (or a map of low rank), of the scale's
    rank: 64, 128 or 256. Without it full ones, to their MLPs."""
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        if self.reset is not None and self.window is None:
            raise InputError("reset says where a repository's fast weights start: give window too")


def run(config: TrainBaselineConfig) -> dict:
    """Read, printing as it goes; returns (and with `output_dir` writes) the results."""
    from ponderttt.experiments.scales import Work
    from ponderttt.prepare.recipes import Recipe
    from ponderttt.prepare.tuning import FIRST_TRIES
    from ponderttt.training.finite import NotFinite
    from ponderttt.types import CHUNK_ACTIONS

    blocks, rate = FIRST_TRIES[config.rule]
    rate = rate if config.rate is None else config.rate
    blocks = blocks if config.suffix_blocks is None else config.suffix_blocks
    rank = config.scale.model.lora_rank if config.lora else None
    recipe = Recipe(config.rule, rate, blocks, cadence=config.chunk_size, rank=rank)
    config = replace(config, rate=rate, suffix_blocks=blocks)
    folder, said = config.open_folder(config.action), config.show_source(config.split)
    work = Work(
        config.num_chunks * config.chunk_size,
        CHUNK_ACTIONS.steps[CHUNK_ACTIONS.position(config.action)],
        cached_tokens=min(config.num_chunks, config.max_chunks_per_document) * config.chunk_size,
    )
    lm = config.load(recipe, work, window=config.window)
    recipe.check(lm)
    read = _chunks if config.window is None else _repository_chunks
    count, chunks = read(config, lm, recipe.adapter())
    losses: list[float] = []
    costs: list[float] = []
    try:
        for i, (loss, cost) in enumerate(chunks, start=1):
            print(f"Chunk {i}/{count}: loss={loss:.3f}", flush=True)
            losses.append(loss)
            costs.append(cost)
    except NotFinite:
        if losses:
            _finish(config, lm, said, losses, costs, folder)
        raise
    return _finish(config, lm, said, losses, costs, folder)


Chunks = Iterator[tuple[float, float]]


def _chunks(
    config: TrainBaselineConfig, lm: "TransformerLM", adapter: "Adapter"
) -> tuple[int, Chunks]:
    """How many chunks are read, and their losses and costs: each file a document of its own."""
    from ponderttt.experiments.baselines.chunks import plan_chunks, read_chunks

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
        per_document=plan.per_document, adapter=adapter, seed=config.seed, split=config.split,
        of=f"the loss at rate {config.rate:g}",
    )  # fmt: skip
    return plan.chunks, chunks


def _repository_chunks(
    config: TrainBaselineConfig, lm: "TransformerLM", adapter: "Adapter"
) -> tuple[int, Chunks]:
    """`_chunks` of one repository, file after file."""
    from ponderttt.experiments.baselines.repository import open_repository, read_repository
    from ponderttt.models.decoder.window import window_of

    size = config.chunk_size
    window = window_of(lm.config, size, config.window or 0)
    repository = open_repository(
        lm, config.text, split=config.split, chunks=config.num_chunks, size=size, seed=config.seed
    )
    files = repository.files[0]
    count = sum(file.units for file in files)
    print(f"Repository {repository.names[0]}: {len(files)} files, {count} chunks of {size} tokens")
    if count < config.num_chunks:
        print(f"{count} chunks are read, not {config.num_chunks}: there are no more")
    print(f"Running {config.action} baseline over a window of {window.tokens} tokens...")
    return count, read_repository(
        lm, repository, adapter, config.action,
        window=window, reset=config.reset or "repository", seed=config.seed,
        of=f"the loss at rate {config.rate:g}",
    )  # fmt: skip


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
