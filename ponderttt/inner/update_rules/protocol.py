"""Update rules: what a gradient does to the fast weights, and what a rule remembers of it."""

from typing import Any, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Array, Float

from ponderttt.inner.fast_weights import Fast

RuleState: TypeAlias = Any
"""A pytree of arrays, `()` where a rule remembers nothing."""
Number: TypeAlias = float | Float[Array, ""]
Rate: TypeAlias = float | Float[Array, "*H"]
"""A scalar, or one a head: along the leading axis of every leaf."""


@runtime_checkable
class UpdateRule(Protocol):
    """A pytree whose numbers are leaves: a grid of rates is one compiled program."""

    def init(self, fast: Fast) -> RuleState:
        """What the rule remembers at the start of a document, whose weights are `fast`."""

    def step(self, fast: Fast, gradient: Fast, state: RuleState) -> tuple[Fast, RuleState]:
        """One step along `gradient`."""
