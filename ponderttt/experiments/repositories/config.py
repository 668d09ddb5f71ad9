"""Parameters of the experiment on repositories; the defaults are the smoke preset."""

from dataclasses import dataclass
from typing import Annotated

from ponderttt.checks import Bounds, Count, Natural, NonNegative, Positive, Seed, Share, check
from ponderttt.experiments.update_rules.config import RuleName, Taken
from ponderttt.models.decoder.precision import Dtype
from ponderttt.prepare.inputs import ModelName, SourceName
from ponderttt.prepare.recipes import Recipe


@dataclass(frozen=True)
class RepositoriesConfig:
    """What to read, by which recipe; numbers of repositories are per source."""

    model: ModelName = "tiny"
    dtype: Dtype = "auto"
    sources: tuple[SourceName, ...] = ("packages", "go")
    """Of code: packages, folders of Go and Zig, or a folder of one's own (one repository)."""
    prose: tuple[SourceName, ...] = ("wikipedia",)
    """Articles, which are read in `prose_units` units and stand by themselves in the tables."""
    window: Natural = 0
    """How far back the base attends, in tokens; 0: all that it was trained for."""
    windows: tuple[Count, ...] = (512,)
    """Shorter windows that are read with and without updates, on `contrasted` repositories."""
    unit: Count = 64
    """Tokens between steps."""
    units: Annotated[int, Bounds(2)] = 48
    prose_units: Annotated[int, Bounds(2)] = 4
    min_files: Count = 2
    test_repositories: Count = 2
    contrasted: Count = 2
    """Test repositories that are also read shuffled, after another one, and in short windows."""
    train_repositories: Count = 1
    """The continuous cache is tuned on these."""
    rule: RuleName = "rms"
    rate: Positive = 1e-3
    blocks: Natural = 1
    """Last blocks whose MLP outputs learn; 0: a map on the last state."""
    steps: Taken = 1
    rank: Count | None = None
    """Of low-rank additions to all projections, in place of full rank to the MLP's outputs."""
    plain_rate: Positive = 0.1
    """Of normalised steps on the same weights, which stand beside the rule."""
    sharpness: tuple[NonNegative, ...] = (0.0, 16.0)
    """Of the continuous cache's weights over cosines; 0 counts every earlier token alike."""
    mixing: tuple[Share, ...] = (0.1, 0.3)
    """Weights of the continuous cache beside the model."""
    explored_files: Count = 4
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        self.recipe.adapter()

    @property
    def recipe(self) -> Recipe:
        """What learns, by the rule and the rate."""
        return Recipe(self.rule, self.rate, self.blocks, self.unit, self.steps, self.rank)

    @property
    def plain(self) -> Recipe:
        """The same weights under the normalised gradient."""
        return Recipe("normalized", self.plain_rate, self.blocks, self.unit, 1, self.rank)
