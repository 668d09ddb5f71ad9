"""Adapters: how fast weights change the language model's prediction, and what they descend.

An adapter is a pytree; `rollout` hands it one unit of one document at a time. `hidden` are cached
states of the frozen base: the last ones, or those before the last `suffix_blocks` blocks.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int

from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules import UpdateRule
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.head import head_nll


class Unit(NamedTuple):
    """One unit as the adapter meets it.

    `hidden` holds the unit's whole attention chunk when suffix blocks have to run (the unit starts
    at `offset`), else the unit alone. Later units in the chunk are there but causally masked.
    """

    hidden: Float[Array, "C D"]
    offset: Int[Array, ""]
    tokens: Int[Array, "U"]
    mask: Bool[Array, "U"]


@runtime_checkable
class Adapter(Protocol):
    """Fast weights on a frozen language model, and their inner objective."""

    @property
    def objective(self) -> str:
        """`next_token` or `reconstruction` (static)."""

    @property
    def suffix_blocks(self) -> int:
        """How many of the base's last blocks run inside the rollout (static)."""

    @property
    def rule(self) -> UpdateRule:
        """What a gradient does to the fast weights."""

    def init(self, lm: TransformerLM) -> Fast:
        """The fast weights at the start of a document."""

    def view(self, lm: TransformerLM, unit: Unit) -> Any:
        """What prediction and inner loss need of a unit, computed once."""

    def hidden(self, lm: TransformerLM, fast: Fast, view: Any) -> Float[Array, "U D"]:
        """The hidden states that the head reads."""

    def observed_loss(self, fast: Fast, view: Any, token_nll: Float[Array, "U"]):
        """The inner loss before adapting, from what scoring computed anyway where it can be."""

    def gradient(self, lm: TransformerLM, fast: Fast, view: Any) -> Fast:
        """Of the inner loss: what `adapt` descends along."""


def token_losses(
    lm: TransformerLM, hidden: Float[Array, "*shape D"], tokens: Int[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Cross-entropy of each token given the hidden state that predicts it, in nats."""
    return head_nll(hidden.astype(lm.head.dtype), lm.head, tokens)
