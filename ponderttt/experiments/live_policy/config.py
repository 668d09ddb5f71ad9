"""Parameters of the training on live text. Imports no JAX: `--help` shows them."""

from dataclasses import dataclass
from typing import Annotated

from ponderttt.checks import Bounds, Count, NonNegative, Positive, Seed, check
from ponderttt.errors import InputError

DOCUMENT_UNITS = 32
"""`budget_limit` is counted against a document of so many units."""


@dataclass(frozen=True)
class LivePolicyConfig:
    """PPO with a PID-Lagrangian: spend the budget where updating gains most on what follows."""

    num_iterations: Count = 10
    """Each collects `rollout_length` units and takes 4 epochs of PPO."""
    budget_limit: float = 100.0
    """Nominal cost that a document of 32 units may have: 100 is 3.125 a unit."""
    rollout_length: Count = 64
    """Units an iteration; the published runs take 256."""
    units: Annotated[int, Bounds(2, why="a step pays on the next unit")] = 8
    """Units of a document."""
    chunk_size: Count = 128
    """Tokens per unit, which is the model's attention window."""
    documents: Count = 16
    """Training documents to draw from; half as many help to tune the rate."""
    seeds: tuple[Seed, ...] = (0,)
    """One policy each."""
    rate: NonNegative | None = None
    """Inner rate of the additive map on the last hidden state (next-token objective); by default
    the one that gains most on training documents, with its clip."""
    clip: Positive | None = None
    """Bound on the norm of its gradient; to be given with `rate`, by default none."""

    def __post_init__(self):
        from ponderttt.types import CHUNK_ACTIONS

        check(self)
        if self.rollout_length % self.units:
            raise InputError(
                f"rollout_length {self.rollout_length} is not a number of documents of "
                f"{self.units} units: expected a multiple"
            )
        if self.at_once > self.documents:
            raise InputError(
                f"an iteration reads {self.at_once} documents: expected documents to be as many, "
                f"not {self.documents}"
            )
        least = DOCUMENT_UNITS * CHUNK_ACTIONS.costs[0]
        if self.budget_limit < least:
            raise InputError(
                f"a budget_limit of {self.budget_limit:g} is infeasible: never updating costs "
                f"{least:g} on {DOCUMENT_UNITS} units, expected that or more"
            )
        if self.clip is not None and self.rate is None:
            raise InputError(
                f"clip is {self.clip:g} and rate is tuned, with its clip: expected both, or neither"
            )

    @property
    def at_once(self) -> int:
        """Documents an iteration."""
        return self.rollout_length // self.units

    @property
    def budget(self) -> float:
        """Mean cost a unit."""
        return self.budget_limit / DOCUMENT_UNITS
