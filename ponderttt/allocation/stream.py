"""What the allocation experiments share: a stream of texts, an adapter for it, and the controls.

A stream is a fixed order of documents of several kinds. Everything is tuned on its training
documents and calibrated on its validation documents; test documents are read once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ponderttt.cache import Arrays, cached, code_fingerprint, fingerprint
from ponderttt.checks import Bounds, Count, Seed, check
from ponderttt.environment.tree import MOST_UNITS, Tree, first_nodes, read_tree
from ponderttt.environment.walk import TreeEnvironment, features_at
from ponderttt.errors import InputError
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.precision import Dtype
from ponderttt.policies import FeatureExtractor, RandomPolicy
from ponderttt.policies.features import TokenTable
from ponderttt.prepare import tuning
from ponderttt.prepare.corpora import Texts, load_texts
from ponderttt.prepare.description import described, token_table, with_constants
from ponderttt.prepare.inputs import ModelName
from ponderttt.prepare.reader import Reader
from ponderttt.progress import track
from ponderttt.training.finite import check_finite
from ponderttt.types import CHUNK_ACTIONS

SHARED = 8
"""Small splits are evaluated as so many documents, or a multiple."""


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


StreamName = Annotated[str, check_stream]


def check_budgets(budgets: tuple[float, ...], units: int) -> None:
    """An `InputError` for a mean cost a unit that documents of so many units cannot have."""
    low, most = CHUNK_ACTIONS.costs[0], CHUNK_ACTIONS.costs[-1]
    high = ((units - 1) * most + low) / units  # nothing is decided about the last unit
    for budget in budgets:
        if not low < budget <= high:
            raise InputError(
                f"a budget of {budget!r} a unit: expected more than {low:g}, the cost of never "
                f"updating, and at most {high:g}, that of always taking "
                f"{CHUNK_ACTIONS.names[-1]} in {units} units"
            )


@dataclass(frozen=True)
class AllocationConfig:
    """What is read, and with which model. Documents are counted over all sources of a stream."""

    model: ModelName = "tiny"
    """A name that `TransformerLM.from_pretrained` knows, or a folder of safetensors."""
    dtype: Dtype = "auto"
    """Of the base's weights and the products with them; sums and activations are float32."""
    streams: tuple[StreamName, ...] = ("mixed",)
    """`mixed` (Python, Go, Zig and Wikipedia in turn), `python`, `shifted` (tuned on Python)."""
    train_documents: Count = 8
    """Rates are tuned and policies trained on these; half as many calibrate them."""
    test_documents: Count = 8
    units: Annotated[
        int, Bounds(2, MOST_UNITS, why="every allocation of a document is evaluated")
    ] = 4
    """Units read of each document, 2 to 6; shorter documents are left out."""
    unit_size: Annotated[int, Bounds(2)] = 64
    budgets: tuple[float, ...] = (2.0, 3.125, 5.0)
    """Mean nominal cost a unit, which the actions' 1, 3, 5 and 12 are counted against."""
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        kinds = max(len(kinds) for name in self.streams for kinds in STREAMS[name])
        for name in ("train_documents", "test_documents"):
            if getattr(self, name) < kinds:
                raise InputError(
                    f"{name} is {getattr(self, name)}: expected {kinds} or more, one of each source"
                )
        check_budgets(self.budgets, self.units)

    def tasks(self, lm: TransformerLM) -> Iterator["AllocationTask"]:
        """Every stream, made ready."""
        for stream in self.streams:
            yield prepare(
                lm, stream,
                train_documents=self.train_documents, test_documents=self.test_documents,
                units=self.units, unit_size=self.unit_size, seed=self.seed,
            )  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Documents of a stream in their order, and the environment that policies act in."""

    texts: Texts
    environment: TreeEnvironment

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, index: Int[np.ndarray, "chosen"]) -> "Split":
        """The documents at `index`, in that order."""
        return Split(self.texts.select(index.tolist()), self.environment.select(index))

    @cached_property
    def padded(self) -> TreeEnvironment:
        """The environment, its last document again until there are a multiple of `SHARED`.

        Small splits of other sizes then share what is compiled for them. No policy looks ahead, so
        nothing changes for the documents that are there.
        """
        count = len(self)
        if count % SHARED == 0 or count > 8 * SHARED:
            return self.environment
        index = np.minimum(np.arange(count + -count % SHARED), count - 1)
        return jax.device_put(jax.tree.map(lambda x: np.asarray(x)[index], self.environment))


@dataclass(frozen=True)
class AllocationTask:
    """A stream and an adapter tuned for it; features in units of its training documents."""

    stream: str
    adapter: Adapter
    training: Split
    validation: Split
    test: Split
    tuned: pd.DataFrame

    @property
    def units(self) -> int:
        """Units of each document."""
        return self.test.environment.num_units


def prepare(
    lm: TransformerLM, stream: str, *, train_documents: int, test_documents: int,
    units: int, unit_size: int, seed: int,
) -> AllocationTask:  # fmt: skip
    """The task of `stream`; documents of all its sources together, as many of each.

    Half as many documents validate as train. What was computed before is taken from the cache.
    Standardised, the share of the budget that is left is the same feature for every budget.
    """
    load = partial(load_texts, lm, unit=unit_size, units=units, seed=seed)
    kinds = STREAMS[stream]
    each = train_documents // len(kinds.train)
    training = load(kinds.train, split="train", count=each)
    validation = load(kinds.train, split="validation", count=max(1, each // 2))
    test = load(kinds.test, split="test", count=test_documents // len(kinds.test))
    ready = tuning.tune(
        Reader(lm, "switch", seed), tuning.next_token, tuning.NEXT_TOKEN_GRID,
        training, validation, budget=CHUNK_ACTIONS.costs[1], count=max(1, each // 4),
    )  # fmt: skip
    table = token_table(lm, training)
    splits = {
        name: texts.select(texts.round_robin())
        for name, texts in (("training", training), ("validation", validation), ("test", test))
    }
    trees = {
        name: _grow(lm, ready.adapter, table, texts, f"{stream}, {name}")
        for name, texts in splits.items()
    }
    constants = _constants(*trees["training"], seed)
    parts = {
        name: Split(texts, TreeEnvironment(tree, features_at(tree, constants, known)))
        for (name, texts), (tree, known) in zip(splits.items(), trees.values(), strict=True)
    }
    return AllocationTask(stream, ready.adapter, **parts, tuned=ready.table)


def _grow(
    lm: TransformerLM, adapter: Adapter, table: TokenTable, texts: Texts, label: str
) -> tuple[Tree, Float[np.ndarray, "B N described"]]:
    """The exhaustive tree of every document, and what is known of its text."""
    corpus, trees = texts.corpus, []
    for i in track(range(len(texts)), f"{label}: exhaustive tree", len(texts)):
        documents, hidden = corpus.batch(np.asarray([i]))
        key = fingerprint(
            code_fingerprint("ponderttt.environment.tree"),
            lm.fingerprint,
            adapter,
            documents,
        )

        def compute(documents=documents, hidden=hidden) -> Arrays:
            tree = read_tree(lm, adapter, documents, hidden=hidden)
            return {name: np.asarray(value)[0] for name, value in tree._asdict().items()}

        trees.append(cached("episodes", key, compute))
        losses = trees[-1]["token_nll"]
        units = np.searchsorted(first_nodes(MOST_UNITS), np.arange(len(losses)), side="right")
        check_finite(
            [losses.mean(axis=-1)], ("document", "unit"),
            names={"document": [texts.paths[i]], "unit": units.tolist()},
        )  # fmt: skip
    tree = Tree(*(jax.device_put(np.stack([t[name] for t in trees])) for name in Tree._fields))
    return tree, described(table, texts)


def equiprobable_policy() -> RandomPolicy:
    """Every action as likely as the others."""
    return RandomPolicy(jnp.full(len(CHUNK_ACTIONS.names), 1 / len(CHUNK_ACTIONS.names)))


def _constants(
    tree: Tree, known: Float[np.ndarray, "B N described"], seed: int
) -> FeatureExtractor:
    """Of the training documents where each action is as likely."""
    raw = FeatureExtractor.raw(budget=1.0)
    environment = TreeEnvironment(tree, features_at(tree, raw, known))
    episode = environment.run(equiprobable_policy(), key=jax.random.key(seed))
    return with_constants(raw, np.asarray(episode.features))


def by_source(values: Float[np.ndarray, "B"], texts: Texts) -> float:
    """Mean over sources of the documents' mean: every kind of text weighs the same."""
    return float(pd.Series(values).groupby(list(texts.sources)).mean().mean())
