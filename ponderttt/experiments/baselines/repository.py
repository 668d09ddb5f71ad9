"""The chunks of one repository under one fixed action, file by file."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from ponderttt.data import Repositories, load_repositories
from ponderttt.data.sources import find_source
from ponderttt.environment.reading import Reset
from ponderttt.environment.rollout import Carry, read_part
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.hidden import cached_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import UniformPolicy
from ponderttt.training.finite import check_finite


def open_repository(
    lm: TransformerLM, source: str | Path, *, split: str, chunks: int, size: int, seed: int
) -> Repositories:
    """One repository of the source with `chunks` chunks, or all that a user's own has."""
    least = 1 if find_source(source)[1].own else chunks
    return load_repositories(
        source, lm.load_tokenizer(), split=split, unit=size, units=chunks, min_units=least,
        max_repositories=1, seed=seed,
    )  # fmt: skip


def read_repository(
    lm: TransformerLM,
    repository: Repositories,
    adapter: Adapter,
    action: str,
    *,
    window: Window,
    reset: Reset,
    seed: int,
    of: str = "the loss",
) -> Iterator[tuple[float, float]]:
    """Loss (nats a token, scored before the chunk is learned from) and cost of each chunk.

    Fast weights are carried from file to file, or start afresh in each (`reset`). A loss that is
    not finite is a `NotFinite` with its file and unit; `of` is what it is called.
    """
    document, files = repository.documents, repository.files[0]
    states = cached_states(
        lm, document, window=window, suffix_blocks=adapter.suffix_blocks, summarise=False
    )
    hidden, policy = jnp.asarray(states[0].hidden)[None], UniformPolicy(action)
    carry: Carry | None = None
    for file in files:
        for n in range(file.first_unit, file.first_unit + file.units):
            episode, carry = read_part(
                lm, adapter, policy, document, key=jax.random.key(seed),
                units=range(n, n + 1), carry=carry, window=window, reset=reset,
                hidden=hidden,
            )  # fmt: skip
            loss, cost = float(episode.nll[0, 0]), float(episode.cost[0, 0])
            check_finite(
                [[loss]], ("file", "unit"), of=of, remedy="lower --rate",
                names={"file": [file.path], "unit": [n + 1]},
            )  # fmt: skip
            yield loss, cost
