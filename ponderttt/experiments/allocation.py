"""What the allocation experiments share: a stream of texts, an adapter for it, and the controls.

A stream is a fixed order of documents of several kinds. Everything is tuned on its training
documents and calibrated on its validation documents; test documents are read once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float

from ponderttt.data import get_tokenizer
from ponderttt.experiments import tuning
from ponderttt.experiments.corpora import Texts, load_texts
from ponderttt.experiments.episodes import Arrays, Features, Reader
from ponderttt.experiments.progress import track
from ponderttt.models.adapters import Adapter
from ponderttt.models.lm import TransformerLM
from ponderttt.policies import (
    FeatureExtractor,
    Policy,
    RandomPolicy,
    SchedulePolicy,
    UniformPolicy,
    best_mix,
)
from ponderttt.policies.features import TokenTable, describe
from ponderttt.types import CHUNK_ACTIONS, Episode, InputError


class Stream(NamedTuple):
    """Which sources a policy is made ready on, and which it is tested on."""

    train: tuple[str, ...]
    test: tuple[str, ...]


STREAMS = {
    "mixed": Stream(("packages", "go", "zig", "wikipedia"), ("packages", "go", "zig", "wikipedia")),
    "python": Stream(("packages",), ("packages",)),
    "shifted": Stream(("packages",), ("go", "zig", "wikipedia")),
}


def check_stream(name: str) -> None:
    """An `InputError` unless `name` is a stream."""
    if name not in STREAMS:
        raise InputError(f"unknown stream {name!r}: expected one of {', '.join(STREAMS)}")


def check_budgets(budgets: tuple[float, ...]) -> None:
    """An `InputError` for a mean cost a unit that the actions cannot have."""
    low, high = CHUNK_ACTIONS.costs[0], CHUNK_ACTIONS.costs[-1]
    for budget in budgets:
        if not isinstance(budget, int | float) or not low < budget <= high:
            raise InputError(
                f"a budget of {budget!r} a unit: expected more than {low:g}, the cost of never "
                f"updating, and at most {high:g}"
            )


@dataclass(frozen=True)
class Setting:
    """A model, an adapter tuned for the stream, and the stream's documents."""

    reader: Reader
    adapter: Adapter
    training: Texts
    validation: Texts
    test: Texts
    tuned: pd.DataFrame
    table: TokenTable

    @property
    def units(self) -> int:
        """Units of each document."""
        return self.test.corpus.documents.tokens.shape[1]

    def describe(self, texts: Texts) -> list[np.ndarray]:
        """What `features.describe` says of each document."""
        corpus = texts.corpus
        tokens, mask = (np.asarray(x) for x in (corpus.documents.tokens, corpus.documents.mask))
        return [
            describe(self.table, tokens[i], mask[i], corpus.hidden[i], corpus.attention[i])
            for i in range(len(texts))
        ]

    def extractor(self, budget: float) -> FeatureExtractor:
        """The features' constants, of the training documents where each action is as likely."""
        raw = FeatureExtractor.raw(budget=budget)
        features = Features(raw, self.describe(self.training))
        even = RandomPolicy(jnp.full(len(CHUNK_ACTIONS.names), 1 / len(CHUNK_ACTIONS.names)))
        episodes = self.read(even, self.training, "the features' constants", features)
        return raw.fit(np.concatenate([arrays["features"] for arrays in episodes]))

    def read(
        self, policy: Policy, texts: Texts, label: str, features: Features | None = None
    ) -> list[Arrays]:
        """The stream's episodes under `policy`, in the order of `texts`.

        A policy that follows the stream is carried from one document to the next.
        """
        episodes = []
        for i in track(range(len(texts)), label, len(texts)):
            arrays = self.reader.read(self.adapter, policy, texts.corpus, i, features)
            if hasattr(policy, "following"):
                seen = (jnp.asarray(arrays[name])[None] for name in Episode._fields)
                policy = policy.following(Episode(*seen))
            episodes.append(arrays)
        return episodes


def prepare(
    lm: TransformerLM, stream: str, *, train_documents: int, test_documents: int,
    units: int, unit_size: int, seed: int,
) -> Setting:  # fmt: skip
    """The setting of `stream`, numbers of documents a source; half as many validate as train."""
    load = partial(load_texts, lm, unit=unit_size, units=units, seed=seed)
    sources = STREAMS[stream]
    training = load(sources.train, split="train", count=train_documents)
    validation = load(sources.train, split="validation", count=max(2, train_documents // 2))
    test = load(sources.test, split="test", count=test_documents)
    reader = Reader(lm, "switch", seed)
    ready = tuning.tune(
        reader, tuning.next_token, tuning.NEXT_TOKEN_GRID, training, validation,
        budget=CHUNK_ACTIONS.costs[1], count=max(1, train_documents // 4),
    )  # fmt: skip
    training, validation, test = (x.select(x.in_turns()) for x in (training, validation, test))
    table = TokenTable.fit(
        get_tokenizer(lm.tokenizer_name),
        np.asarray(training.corpus.documents.tokens),
        training.corpus.hidden[0],
    )
    return Setting(reader, ready.adapter, training, validation, test, ready.table, table)


class Outcome(NamedTuple):
    """What a policy got from each document of a stream: nats a token, nominal cost a unit."""

    loss: Float[np.ndarray, "B"]
    cost: Float[np.ndarray, "B"]

    @classmethod
    def of(cls, episodes: list[Arrays]) -> "Outcome":
        """Of full documents."""
        return cls(
            np.array([tuning.document_loss(arrays) for arrays in episodes]),
            np.array([float(arrays["cost"].mean()) for arrays in episodes]),
        )


def fixed_actions(setting: Setting, texts: Texts, label: str) -> dict[str, Outcome]:
    """Every action taken on every unit."""
    return {
        name: Outcome.of(setting.read(UniformPolicy(name), texts, f"{label}, {name}"))
        for name in CHUNK_ACTIONS.names
    }


def validation_gains(setting: Setting) -> Float[np.ndarray, "A"]:
    """Mean gain over SKIP of each action on every unit of the validation documents, nats."""
    fixed = fixed_actions(setting, setting.validation, "validation")
    skip = fixed["SKIP"].loss
    return np.array(
        [by_source(skip - fixed[name].loss, setting.validation) for name in CHUNK_ACTIONS.names]
    )


def uninformed(
    setting: Setting, gains: Float[np.ndarray, "A"], budget: float
) -> Iterator[tuple[str, Policy]]:
    """The uninformed policies that cost `budget` a unit: the best mix, and updating early."""
    yield "best mix", RandomPolicy(jnp.asarray(best_mix(gains, budget), jnp.float32))
    for name, cost in zip(CHUNK_ACTIONS.names[1:], CHUNK_ACTIONS.costs[1:], strict=True):
        if cost >= budget:
            yield f"{name} first", SchedulePolicy.first(name, budget, setting.units)


class Control(NamedTuple):
    """The best uninformed policy at a budget, and what was tried on validation documents."""

    name: str
    policy: Policy
    table: pd.DataFrame


def best_uninformed(setting: Setting, gains: Float[np.ndarray, "A"], budget: float) -> Control:
    """The yardstick at `budget`: the uninformed policy with the least validation loss.

    `gains` are `validation_gains`, the same for every budget.
    """
    tried = dict(uninformed(setting, gains, budget))
    rows = []
    for name, policy in tried.items():
        outcome = Outcome.of(setting.read(policy, setting.validation, f"{name} at {budget:g}"))
        rows.append(
            (budget, name, by_source(outcome.loss, setting.validation), outcome.cost.mean())
        )
    table = pd.DataFrame(rows, columns=["budget", "control", "loss", "cost"])
    best = str(table["control"].iloc[int(table["loss"].argmin())])
    return Control(best, tried[best], table.assign(chosen=table["control"] == best))


def by_source(values: Float[np.ndarray, "B"], texts: Texts) -> float:
    """Mean over sources of the documents' mean: every kind of text weighs the same."""
    return float(pd.Series(values).groupby(list(texts.sources)).mean().mean())
