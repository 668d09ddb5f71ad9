"""Parameters of the experiment on update rules; the defaults are the smoke preset."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ponderttt.checks import Bounds, Count, Natural, Positive, Seed, check
from ponderttt.errors import InputError
from ponderttt.models.decoder.precision import Dtype
from ponderttt.prepare.inputs import ModelName, SourceName
from ponderttt.types import CHUNK_ACTIONS

RuleName = Literal["sgd", "normalized", "rms", "rms_sum", "rms_sum_sqrt", "adamw", "newton_schulz"]
Taken = Annotated[int, Bounds(1, CHUNK_ACTIONS.max_steps)]


@dataclass(frozen=True)
class UpdateRulesConfig:
    """What to read and what to try; numbers of repositories are per source.

    Recipes are tried in stages on training repositories: rules at `blocks`, then the best of them
    at other depths, as low-rank additions, at other cadences and with more steps. The best few are
    read on validation repositories, and the best of those within `flops_budget` is the winner.
    """

    model: ModelName = "tiny"
    dtype: Dtype = "auto"
    sources: tuple[SourceName, ...] = ("packages", "go")
    """Of code: packages, folders of Go and Zig, or a folder of one's own (one repository)."""
    prose: tuple[SourceName, ...] = ("wikipedia",)
    """What the chosen recipe must not make worse; read in `prose_units` units."""
    window: Natural = 0
    """How far back the base attends, in tokens; 0: all that it was trained for."""
    unit: Count = 32
    """Tokens between steps, unless the stage says otherwise."""
    units: Annotated[int, Bounds(2)] = 12
    """Units of a test or validation repository."""
    search_units: Annotated[int, Bounds(2)] = 8
    """Units of a training repository."""
    prose_units: Annotated[int, Bounds(2)] = 4
    min_files: Count = 1
    train_repositories: Count = 1
    validation_repositories: Count = 1
    test_repositories: Count = 2
    rules: tuple[RuleName, ...] = ("normalized", "rms")
    rates: Count = 1
    """Rates tried of each rule, a factor of 3 apart, about the one that is known to work."""
    blocks: Count = 1
    """Last blocks that learn where the stage says no other number."""
    depths: tuple[Natural, ...] = (0,)
    """Other numbers of blocks; 0: a map on the last state."""
    ranks: tuple[Count, ...] = (4,)
    """Of low-rank additions to all projections of the last `blocks` blocks."""
    pulls: tuple[Positive, ...] = (0.1,)
    """Pulls back to the initial weights, on the best RMS-scaled rule."""
    cadences: tuple[Count, ...] = (16,)
    """Other numbers of tokens between steps; each divides the largest of them and `unit`."""
    steps: tuple[Taken, ...] = (2,)
    """Other numbers of steps after a unit."""
    finalists: Count = 2
    """Recipes that are read on validation repositories."""
    flops_budget: Positive = 0.5
    """Most that the winner may add to a forward pass, as a share of its FLOPs."""
    timed_units: Annotated[int, Bounds(2)] = 2
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        for cadence in (self.unit, *self.cadences):
            if self.longest % cadence:
                raise InputError(
                    f"cadences hold {cadence}: expected numbers that divide the largest of them "
                    f"and unit, {self.longest}"
                )
        for name in ("units", "search_units"):
            if getattr(self, name) * self.unit % self.longest:
                raise InputError(
                    f"{name} is {getattr(self, name)}: so many units of {self.unit} tokens are no "
                    f"whole number of the longest cadence, {self.longest}"
                )

    @property
    def longest(self) -> int:
        """The longest cadence: files of training repositories begin at multiples of it."""
        return max(self.unit, *self.cadences)
