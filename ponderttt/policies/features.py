"""The 32 features that a policy sees: what reading has computed anyway, and the text so far.

All are causal: those of a unit are known once it has been scored and before it is learned from.
Axes: N units, U tokens per unit, D model width, V vocabulary, F = 32 features.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ponderttt import pytree
from ponderttt.data.tokenizer import vocabulary_size
from ponderttt.errors import InputError
from ponderttt.types import Observation, masked_mean

GROUPS = {
    "confidence": ("entropy", "entropy_std", "top_probability", "log_perplexity"),
    "activations": (
        "hidden_mean", "hidden_std", "hidden_min", "hidden_max", "hidden_small", "hidden_norm"
    ),
    "attention": ("attention_entropy", "attention_spread", "attention_top", "attention_small"),
    "text": (
        "unigram_entropy", "distinct", "new_tokens", "repeated_bigrams",
        "newlines", "spaces", "identifiers", "punctuation",
    ),
    "history": ("loss_average", "cost_average", "budget_left", "units_since_update"),
    "sequence": (
        "position", "log_tokens", "frequency", "frequency_std", "inner_loss", "gradient_norm"
    ),
}  # fmt: skip
"""Six groups of features, in the order of the vector."""
NAMES = tuple(name for group in GROUPS.values() for name in group)
DESCRIBED = tuple(
    name
    for name in NAMES
    if name in GROUPS["activations"] + GROUPS["attention"] + GROUPS["text"]
    or name.startswith("frequency")
)
"""Those that do not depend on what a policy does: computed once per document."""
VERSION = 1
"""Counts up when a feature changes its meaning: policies say which one they were trained on."""
LIMIT = 5.0
_SLOW = 0.9
"""Decay of the running averages of loss and cost."""


class TokenTable(NamedTuple):
    """What is known of the vocabulary and of the base's states, from training documents."""

    classes: Int[np.ndarray, "V"]
    """0 other, 1 newline, 2 space or indentation, 3 identifier-like, 4 punctuation."""
    log_frequency: Float[np.ndarray, "V"]
    """Natural logarithm of each token's smoothed share of the training text."""
    hidden_std: float

    @classmethod
    def fit(
        cls,
        tokenizer: Any,
        tokens: Int[np.ndarray, "*batch"],
        hidden: Float[np.ndarray, "*states D"],
    ) -> "TokenTable":
        """From the tokens of training documents, and the base's states at some of them."""
        size = vocabulary_size(tokenizer)
        counts = np.bincount(np.asarray(tokens).reshape(-1), minlength=size)[:size] + 0.5
        words = tokenizer.batch_decode([[token] for token in range(size)])
        return cls(
            np.array([_class_of(word) for word in words], np.int8),
            np.log(counts / counts.sum()).astype(np.float32),
            float(np.std(np.asarray(hidden, np.float32))),
        )


def _class_of(word: str) -> int:
    if "\n" in word:
        return 1
    if not word.strip():
        return 2
    if re.fullmatch(r"\s*[^\W\d]\w*", word):
        return 3
    return 0 if re.search(r"\w", word) else 4


def describe(
    table: TokenTable,
    tokens: Int[np.ndarray, "N U"],
    mask: Bool[np.ndarray, "N U"],
    hidden: Float[np.ndarray, "N U D"],
    attention: Float[np.ndarray, "N U 4"],
) -> Float[np.ndarray, "N described"]:
    """The features named in `DESCRIBED` of each unit of one document, raw; 0 for padded units."""
    rows = np.zeros((len(tokens), len(DESCRIBED)), np.float32)
    seen: set[int] = set()
    pairs: set[tuple[int, int]] = set()
    for n, real in enumerate(np.asarray(mask)):
        if not real.any():
            break
        unit = np.asarray(tokens[n])[real]
        rows[n] = np.concatenate(
            [
                _activations(np.asarray(hidden[n], np.float32)[real] / table.hidden_std),
                np.asarray(attention[n], np.float32)[real].mean(axis=0),
                _text(table, unit, seen, pairs),
                [table.log_frequency[unit].mean(), table.log_frequency[unit].std()],
            ]
        )
    return rows


def _activations(h: Float[np.ndarray, "U D"]) -> list[np.floating]:
    norms = np.sqrt(np.mean(h**2, axis=-1))
    return [h.mean(), h.std(), h.min(), h.max(), np.mean(np.abs(h) < 0.1), norms.mean()]


def _text(table: TokenTable, unit: np.ndarray, seen: set, pairs: set) -> list[Any]:
    """The eight of the text; `seen` and `pairs` are the document's so far, and grow."""
    _, counts = np.unique(unit, return_counts=True)
    share = counts / len(unit)
    here = list(zip(unit[:-1].tolist(), unit[1:].tolist(), strict=True))
    fresh = np.mean([token not in seen for token in unit.tolist()])
    repeated = np.mean([pair in pairs for pair in here]) if here else 0.0
    seen.update(unit.tolist())
    pairs.update(here)
    kinds = np.bincount(table.classes[unit], minlength=5) / len(unit)
    return [-np.sum(share * np.log(share)), len(counts) / len(unit), fresh, repeated, *kinds[1:]]


class Memory(NamedTuple):
    """What the features remember of the document's earlier units."""

    loss_average: Float[Array, ""]
    inner_loss: Float[Array, ""]
    """Of the unit before."""
    cost_average: Float[Array, ""]
    since_update: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    """Of the last unit that was learned from: another one would cost a backward pass."""
    tokens: Float[Array, ""]


@dataclass(frozen=True)
class FeatureExtractor:
    """Turns what is known by now into the 32 features, standardised and clipped to [-5, 5].

    `mean` and `scale` are fitted on training documents (`fit`; until then nothing is clipped);
    `keep` is 0 where a group is ablated (`without`); `budget` is the mean cost a unit that
    `budget_left` is counted against.

    >>> FeatureExtractor.raw(budget=3.0).without("attention").keep.sum()
    Array(28., dtype=float32)
    """

    mean: Float[Array, "F"]
    scale: Float[Array, "F"]
    keep: Float[Array, "F"]
    budget: Float[Array, ""]
    limit: Float[Array, ""]

    @classmethod
    def raw(cls, *, budget: float) -> "FeatureExtractor":
        """Features as they come: what `fit` is then given."""
        ones = jnp.ones(len(NAMES))
        return cls(0 * ones, ones, ones, jnp.asarray(budget, jnp.float32), jnp.asarray(jnp.inf))

    def fit(self, features: Float[np.ndarray, "M F"]) -> "FeatureExtractor":
        """With the constants of raw features of training units; a value not finite is refused."""
        features = np.asarray(features, np.float64)
        if not len(features):
            raise InputError("no unit to fit the features' constants on: expected one or more")
        bad = np.flatnonzero(~np.isfinite(features).all(axis=0))
        if len(bad):
            raise InputError(f"the feature {NAMES[bad[0]]!r} is not finite: expected finite values")
        scale = np.maximum(features.std(axis=0), 1e-6)
        return replace(
            self,
            mean=jnp.asarray(features.mean(axis=0), jnp.float32),
            scale=jnp.asarray(scale, jnp.float32),
            limit=jnp.asarray(LIMIT),
        )

    def without(self, *groups: str) -> "FeatureExtractor":
        """With all features of `groups` at 0."""
        unknown = [name for name in groups if name not in GROUPS]
        if unknown:
            raise InputError(f"unknown group {unknown[0]!r}: expected some of {', '.join(GROUPS)}")
        gone = {name for group in groups for name in GROUPS[group]}
        return replace(self, keep=jnp.asarray([float(name not in gone) for name in NAMES]))

    def init(self) -> Memory:
        """Nothing read yet."""
        return Memory(*(jnp.zeros(()) for _ in Memory._fields))

    def observe(
        self,
        memory: Memory,
        seen: Observation,
        entropy: Float[Array, "U"],
        top: Float[Array, "U"],
        described: Float[Array, "described"],
        units: int,
    ) -> tuple[Float[Array, "F"], Memory]:
        """The features of the unit just scored; `units` is how many the document has at most.

        `entropy` and `top` (largest log-probability) are those of its tokens' predictions, nats.
        """
        used = jnp.where(seen.unit == 0, 0.0, _SLOW)
        rise = jnp.where(seen.unit == 0, 0.0, seen.inner_loss - memory.inner_loss)
        memory = memory._replace(
            loss_average=used * memory.loss_average + (1 - used) * seen.nll,
            inner_loss=seen.inner_loss,
            tokens=memory.tokens + jnp.sum(seen.mask).astype(float),
        )
        mean_entropy = masked_mean(entropy, seen.mask)
        spread = masked_mean((entropy - mean_entropy) ** 2, seen.mask)
        known = dict(zip(DESCRIBED, described, strict=True)) | {
            "entropy": mean_entropy,
            "entropy_std": jnp.sqrt(jnp.maximum(spread, 0.0)),
            "top_probability": masked_mean(jnp.exp(top), seen.mask),
            "log_perplexity": seen.nll,
            "loss_average": memory.loss_average,
            "cost_average": memory.cost_average,
            "budget_left": 1 - seen.spent / (self.budget * units),
            "units_since_update": memory.since_update,
            "position": seen.unit / units,
            "log_tokens": jnp.log1p(memory.tokens),
            # Its rise: under next-token the inner loss itself is the log-perplexity.
            "inner_loss": rise,
            "gradient_norm": memory.gradient_norm,
        }
        raw = jnp.stack([jnp.asarray(known[name], jnp.float32) for name in NAMES])
        return self.standardise(raw), memory

    def standardise(self, raw: Float[Array, "*B F"]) -> Float[Array, "*B F"]:
        """Raw features in their units, clipped, and 0 where they are ablated."""
        mean, scale, keep = (
            jnp.broadcast_to(x, raw.shape) for x in (self.mean, self.scale, self.keep)
        )
        return jnp.clip((raw - mean) / scale, -self.limit, self.limit) * keep

    def remember(
        self,
        memory: Memory,
        cost: Float[Array, ""],
        steps: Int[Array, ""],
        gradient_norm: Float[Array, ""],
    ) -> Memory:
        """After the unit has been learned from."""
        learned = steps > 0
        return memory._replace(
            cost_average=_SLOW * memory.cost_average + (1 - _SLOW) * cost,
            since_update=jnp.where(learned, 0.0, memory.since_update + 1),
            gradient_norm=jnp.where(learned, gradient_norm, memory.gradient_norm),
        )


pytree.register(FeatureExtractor)
