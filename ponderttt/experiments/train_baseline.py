"""One fixed action over some chunks of text: the quickest look at what updating does.

`python -m ponderttt.experiments.train_baseline --model_scale 125m --action SKIP --num_chunks 10`
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ponderttt.checks import Count, NonNegative, Seed, check
from ponderttt.errors import InputError
from ponderttt.experiments.command import Device, run_module, use_device
from ponderttt.prepare.inputs import SourceName
from ponderttt.storage import writable_folder, write_text
from ponderttt.types import CHUNK_ACTIONS

SCALES = {"125m": "gpt2", "350m": "gpt2-medium", "1b": "gpt2-large"}


@dataclass(frozen=True)
class TrainBaselineConfig:
    """Read chunks of text under one fixed action and print the loss of each, scored first."""

    model_scale: Literal["125m", "350m", "1b"] = "125m"
    """GPT-2's scales; offline, 125m is SmolLM2-135M from its wheel."""
    action: Literal["SKIP", "UPDATE_1", "UPDATE_2", "UPDATE_4"] = "SKIP"
    """Steps taken after each chunk: none, 1, 2 or 4 (nominal costs 1, 3, 5, 12)."""
    num_chunks: Count = 10
    """How many chunks to read, from as many documents as that takes."""
    chunk_size: Count = 512
    """Tokens per chunk, which is the model's attention window."""
    max_chunks_per_document: Count = 8
    """Fast weights start afresh with each document."""
    rate: NonNegative = 1.0
    """Inner rate of the additive map on the last hidden state (next-token objective)."""
    source: SourceName = "stdlib"
    """A named source, or a folder of files of your own."""
    use_real_data: bool = False
    """Read The Stack from the hub (gated) instead of `source`."""
    output_dir: Path | None = None
    """Where results.json goes: <output_dir>/<model_scale>/<action>/results.json."""
    device: Device | None = None
    """Backend; the default is whatever JAX finds."""
    seed: Seed = 0

    def __post_init__(self):
        check(self)


def load_scale(scale: str):
    """The language model of a scale and a sentence that says which it is.

    GPT-2 from the hub where it can be had; for 125m otherwise SmolLM2-135M from its wheel.
    """
    from ponderttt.models.decoder.lm import TransformerLM

    name = SCALES[scale]
    try:
        return TransformerLM.from_pretrained(name, dtype="auto"), f"Loading {name} ({scale})"
    except InputError as error:
        if scale != "125m":
            raise
        lm = TransformerLM.from_pretrained("smollm2-135m", dtype="auto")
        return lm, f"{name} is out of reach ({error}); 125m is SmolLM2-135M here"


def chunk_losses(lm, config: TrainBaselineConfig) -> Iterator[tuple[float, float]]:
    """Loss (nats a token, scored before the chunk is learned from) and cost of each chunk."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ponderttt.data import get_tokenizer, load_documents
    from ponderttt.environment.rollout import rollout
    from ponderttt.models.adapters.next_token import NextToken
    from ponderttt.policies import UniformPolicy

    units = min(config.num_chunks, config.max_chunks_per_document)
    count = -(-config.num_chunks // units)
    source = "the-stack" if config.use_real_data else config.source
    texts = load_documents(
        source, get_tokenizer(lm.tokenizer_name), split="test", unit=config.chunk_size,
        units=units, min_units=units,
        max_documents=count, seed=config.seed,
    )  # fmt: skip
    found = len(texts.paths)
    if found * units < config.num_chunks:
        raise InputError(
            f"{source} has {found} test documents of {units} chunks of {config.chunk_size} tokens: "
            f"{config.num_chunks} chunks need {count}; lower num_chunks or chunk_size"
        )
    adapter, policy = NextToken(jnp.asarray(config.rate)), UniformPolicy(config.action)
    for i in range(count):
        document = texts.documents.select(slice(i, i + 1))
        key = jax.random.fold_in(jax.random.key(config.seed), i)
        episode = rollout(lm, adapter, policy, document, key=key, dispatch="switch")
        yield from zip(np.asarray(episode.nll[0]), np.asarray(episode.cost[0]), strict=True)


def run(config: TrainBaselineConfig) -> dict:
    """Read, printing as it goes; returns (and with `output_dir` writes) the results."""
    use_device(config.device)
    if config.output_dir:
        folder = writable_folder(config.output_dir / config.model_scale / config.action)
    lm, sentence = load_scale(config.model_scale)
    print(sentence)
    print(f"Running {config.action} baseline...")
    losses, costs = [], []
    for (loss, cost), i in zip(
        chunk_losses(lm, config), range(1, config.num_chunks + 1), strict=False
    ):
        losses.append(float(loss))
        costs.append(float(cost))
        print(f"Chunk {i}/{config.num_chunks}: loss={loss:.3f}", flush=True)
    result = {
        "config": asdict(config)
        | {"output_dir": str(config.output_dir), "model": lm.name, "dtype": lm.dtype},
        "chunk_losses": losses,
        "average_loss": sum(losses) / len(losses),
        "total_cost": sum(costs),
    }
    per_chunk = CHUNK_ACTIONS.costs[CHUNK_ACTIONS.position(config.action)]
    print(f"Average loss: {result['average_loss']:.3f}")
    print(f"Total cost: {result['total_cost']:.1f} ({per_chunk:g} a chunk)")
    if config.output_dir:
        write_text(folder / "results.json", json.dumps(result, indent=2) + "\n")
        print(f"Results: {folder / 'results.json'}")
    return result


if __name__ == "__main__":
    run_module(TrainBaselineConfig, run, __doc__)
