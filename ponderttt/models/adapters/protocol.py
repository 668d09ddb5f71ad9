"""Adapters: how fast weights change the language model's prediction, and what they descend.

An adapter is a pytree; `rollout` hands it one unit of one document at a time. `hidden` are cached
states of the frozen base: the last ones, or those before the last `suffix_blocks` blocks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int

from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules import UpdateRule
from ponderttt.models.decoder.decoder import Context
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.head import head_nll
from ponderttt.models.windowed_attention import Past


class Unit(NamedTuple):
    """One unit as the adapter meets it.

    With suffix blocks, `past` holds what those blocks have read before it in its context: keys and
    values as they were when they were read. Without, `context` and `past` are empty.
    """

    hidden: Float[Array, "U D"]
    tokens: Int[Array, "U"]
    mask: Bool[Array, "U"]
    context: Context | tuple[()] = ()
    past: Past | tuple[()] = ()


class UnitOutput(NamedTuple):
    """What an adapter makes of a unit."""

    hidden: Float[Array, "U D"]
    """The states that the head reads."""
    past: Past | tuple[()]
    """That of the unit, and the unit behind it."""
    pull: Callable[[Float[Array, "U D"]], tuple[Fast]] | None
    """From a derivative with respect to `hidden` to that with respect to the fast weights."""
    slope: Float[Array, "U D"] | None = None
    """The derivative of the unit's mean loss with respect to `hidden`, where scoring took it."""


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

    def read(self, lm: TransformerLM, fast: Fast, view: Any, *, learns: bool) -> UnitOutput:
        """The unit's states under `fast`; with `pull` where it `learns` from its prediction."""

    def observed_loss(self, fast: Fast, view: Any, token_nll: Float[Array, "U"]):
        """The inner loss before adapting, from what scoring computed anyway where it can be."""

    def gradient(
        self, lm: TransformerLM, fast: Fast, view: Any, reading: UnitOutput | None = None
    ) -> Fast:
        """Of the inner loss: what `adapt` descends along.

        `reading` is what `read` made of the unit under these weights, where it was made to learn.
        """


def token_losses(
    lm: TransformerLM, hidden: Float[Array, "*shape D"], tokens: Int[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Cross-entropy of each token given the hidden state that predicts it, in nats."""
    return head_nll(hidden.astype(lm.head.dtype), lm.head, tokens)
