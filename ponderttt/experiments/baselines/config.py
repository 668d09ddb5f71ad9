"""The parameters of the baselines experiment; the defaults are the smoke preset."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ponderttt.checks import Bounds, Count, Seed, check
from ponderttt.models.decoder.precision import Dtype
from ponderttt.prepare.inputs import ModelName, SourceName
from ponderttt.types import CHUNK_ACTIONS

Objective = Literal["next_token", "reconstruction"]
COSTS = CHUNK_ACTIONS.costs
MEAN_COST = Bounds(COSTS[0], COSTS[-1], why="a mean of the actions' costs")


@dataclass(frozen=True)
class BaselinesConfig:
    """What to read, with which model, and how much of it. Numbers of documents are per source."""

    model: ModelName = "tiny"
    """A name that `TransformerLM.from_pretrained` knows, or a folder of safetensors."""
    dtype: Dtype = "auto"
    """Of the base's weights and the products with them; sums and activations are float32."""
    sources: tuple[SourceName, ...] = ("packages", "go", "wikipedia")
    """Names of sources, or local folders."""
    objectives: tuple[Objective, ...] = ("next_token", "reconstruction")
    train_documents: Annotated[int, Bounds(2)] = 2
    """Rates are tuned and slow weights trained on these; half as many validate them."""
    test_documents: Count = 3
    units: Annotated[int, Bounds(2)] = 4
    """Units read of each document; shorter documents are left out."""
    unit_size: Count = 64
    """Tokens per unit, which is also the base's attention window."""
    train_steps: Count = 4
    budget: Annotated[float, MEAN_COST] = 3.125
    """Mean nominal cost per unit of the random control."""
    dispatch: Literal["masked", "switch"] = "switch"
    seed: Seed = 0

    def __post_init__(self):
        check(self)
