"""Parameters of the experiment on update rules; the defaults are the smoke preset."""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from ponderttt.checks import Bounds, Count, Natural, Seed, check
from ponderttt.errors import InputError
from ponderttt.models.decoder.precision import Dtype
from ponderttt.prepare.inputs import ModelName, SourceName, check_split
from ponderttt.prepare.repositories import check_code

RuleName = Literal[
    "sgd", "normalized", "rms", "rms_sum", "rms_sum_sqrt", "adamw",
    "newton_schulz", "newton_schulz_1", "newton_schulz_2", "newton_schulz_3",
]  # fmt: skip
PlanName = Literal["smoke", "quick", "whole"]


class Plan(NamedTuple):
    """What is tried beside the rules, and how much is read for it; all counts are per source."""

    search_units: int
    """Units of a training repository."""
    validation: int
    """Validation repositories, each as long as a test repository."""
    rates: int
    """Rates tried of each rule, a factor of 3 apart, about the one that is known to work."""
    depths: tuple[int, ...]
    """Other numbers of last blocks that learn; 0: a map on the last state; 99: all blocks."""
    iterations: tuple[RuleName, ...]
    """Cheaper forms of Newton-Schulz steps, where those are the best; and as deep as they allow."""
    ranks: tuple[int, ...]
    """Of low-rank additions to all projections of the last blocks."""
    pulls: tuple[float, ...]
    """Pulls back to the initial weights, on the best rule with RMS-scaled steps."""
    cadences: tuple[int, ...]
    """Other numbers of tokens between steps, as multiples of the unit's quarter."""
    steps: tuple[int, ...]
    """Other numbers of steps after a unit."""
    finalists: int
    """Recipes that are read on validation repositories."""
    flops_budget: float
    """Most that the winner may add to a forward pass, as a share of its FLOPs."""
    timed_units: int


PLANS: dict[str, Plan] = {
    "smoke": Plan(24, 1, 1, (0,), (), (), (), (2,), (), 2, 2.0, 2),
    "quick": Plan(8, 1, 1, (), (), (), (), (), (), 2, 0.5, 2),
    "whole": Plan(
        search_units=32,
        validation=1,
        rates=3,
        depths=(0, 1, 2, 8, 99),
        iterations=("newton_schulz_1", "newton_schulz_2", "newton_schulz_3"),
        ranks=(8, 64, 256),
        pulls=(10.0, 100.0),
        cadences=(1, 2, 8),
        steps=(2, 4),
        finalists=4,
        flops_budget=0.5,
        timed_units=12,
    ),
}
"""Searches by name."""


@dataclass(frozen=True)
class UpdateRulesConfig:
    """What to read and what to try; numbers of repositories are per source.

    Recipes are tried in stages on training repositories: rules at `blocks`, then the best of them
    pulled back, at other depths and with cheaper steps, then the best that the FLOP budget allows
    as low-rank additions, at other cadences and with more steps. The best few within the budget
    are read on validation repositories; the best of those wins.
    """

    model: ModelName = "tiny"
    dtype: Dtype = "auto"
    sources: tuple[SourceName, ...] = ("packages", "go", "wikipedia")
    """Packages, folders of Go and Zig; articles are read for the test alone."""
    window: Natural = 0
    """How far back the base attends, in tokens; 0: all that it was trained for."""
    unit: Count = 64
    """Tokens between steps, unless a recipe says otherwise."""
    units: Annotated[int, Bounds(2)] = 24
    """Units of a test or validation repository."""
    train_repositories: Count = 1
    test_repositories: Count = 2
    rules: tuple[RuleName, ...] = ("normalized", "rms")
    blocks: Count = 1
    """Last blocks whose MLP outputs learn where a recipe says no other number."""
    plan: PlanName = "smoke"
    """What else is tried: see `PLANS`."""
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        check_split(self.sources)
        check_code(self.sources)
        if self.unit % 4:
            raise InputError(f"unit is {self.unit}: expected a multiple of 4, for other cadences")
        for name, units in (("units", self.units), ("search_units", self.search.search_units)):
            if units * self.unit % self.longest:
                raise InputError(
                    f"{name} is {units}: so many units of {self.unit} tokens are no whole number "
                    f"of the longest cadence, {self.longest}"
                )

    @property
    def search(self) -> Plan:
        """The plan of that name."""
        return PLANS[self.plan]

    @property
    def cadences(self) -> tuple[int, ...]:
        """Other numbers of tokens between steps."""
        return tuple(self.unit // 4 * times for times in self.search.cadences)

    @property
    def longest(self) -> int:
        """The longest cadence: files of training repositories begin at multiples of it."""
        return max(self.unit, *self.cadences) if self.cadences else self.unit
