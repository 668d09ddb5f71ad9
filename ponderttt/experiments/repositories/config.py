"""Parameters of the experiment on repositories; the defaults are the smoke preset."""

from dataclasses import dataclass
from typing import Annotated

from ponderttt.checks import Bounds, Count, Natural, Positive, Seed, check
from ponderttt.errors import InputError
from ponderttt.experiments.update_rules.config import RuleName
from ponderttt.inner.update_rules import RULES
from ponderttt.models.decoder.precision import Dtype
from ponderttt.prepare.inputs import ModelName, SourceName
from ponderttt.prepare.recipes import Recipe
from ponderttt.prepare.repositories import check_code

CONTRASTED = 3
"""Test repositories of a source that are also read shuffled, after another one, and in a window of
a quarter: what takes another pass or two."""
TRAINING = 2
"""Training repositories of a source: the continuous cache is tuned on them."""
SHARPNESS = (0.0, 8.0, 16.0, 32.0)
"""Of the continuous cache's weights over cosines; 0 counts every earlier token alike."""
MIXING = (0.03, 0.1, 0.2, 0.3)
"""Weights of the continuous cache beside the model."""
ONLINE = tuple(name for name, family in RULES.items() if not family.statistics)
"""Rules that need nothing of other documents."""
PLAIN_RATE = 0.1
"""Of normalised steps on the same weights, which stand beside the rule."""


@dataclass(frozen=True)
class RepositoriesConfig:
    """What to read, by which recipe; numbers of repositories are per source."""

    model: ModelName = "tiny"
    dtype: Dtype = "auto"
    sources: tuple[SourceName, ...] = ("packages", "go", "wikipedia")
    """Packages, folders of Go and Zig, or a folder of one's own (one repository); articles."""
    window: Natural = 0
    """How far back the base attends, in tokens; 0: all that it was trained for."""
    unit: Count = 64
    """Tokens between steps."""
    units: Annotated[int, Bounds(2)] = 24
    test_repositories: Count = 2
    rule: RuleName = "rms"
    rate: Positive = 1e-3
    blocks: Natural = 1
    """Last blocks that learn; 0: a map on the last state."""
    rank: Natural = 0
    """Of low-rank additions to all projections; 0: full rank, to the MLP's outputs."""
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        check_code(self.sources)
        if self.recipe.gathers:
            raise InputError(
                f"rule {self.rule!r} needs statistics of training documents, which are not "
                f"gathered here: expected one of {', '.join(ONLINE)}"
            )
        self.recipe.adapter()

    @property
    def recipe(self) -> Recipe:
        """What learns, by the rule and the rate."""
        return Recipe(self.rule, self.rate, self.blocks, self.unit, rank=self.rank or None)

    @property
    def plain(self) -> Recipe:
        """The same weights under the normalised gradient."""
        return Recipe("normalized", PLAIN_RATE, self.blocks, self.unit, rank=self.rank or None)
