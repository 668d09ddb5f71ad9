"""The parameters of the baselines experiment; the defaults are the smoke preset."""

from dataclasses import dataclass
from typing import Literal

from ponderttt.checks import check_choices, check_numbers
from ponderttt.errors import InputError
from ponderttt.inner.descent import DISPATCHES
from ponderttt.models.decoder.precision import Dtype
from ponderttt.prepare.inputs import check_common
from ponderttt.types import CHUNK_ACTIONS

OBJECTIVES = ("next_token", "reconstruction")


@dataclass(frozen=True)
class BaselinesConfig:
    """What to read, with which model, and how much of it. Numbers of documents are per source."""

    model: str = "tiny"
    """A name that `TransformerLM.from_pretrained` knows, or a folder of safetensors."""
    dtype: Dtype = "auto"
    """Of the base's weights and the products with them; sums and activations are float32."""
    sources: tuple[str, ...] = ("packages", "go", "wikipedia")
    """Names of sources, or local folders."""
    objectives: tuple[str, ...] = OBJECTIVES
    train_documents: int = 2
    """Rates are tuned and slow weights trained on these; half as many validate them."""
    test_documents: int = 3
    units: int = 4
    """Units read of each document; shorter documents are left out."""
    unit_size: int = 64
    """Tokens per unit, which is also the base's attention window."""
    train_steps: int = 4
    budget: float = 3.125
    """Mean nominal cost per unit of the random control."""
    dispatch: Literal["masked", "switch"] = "switch"
    seed: int = 0

    def __post_init__(self):
        check_common(self)
        check_choices(self, "objectives")
        unknown = [name for name in self.objectives if name not in OBJECTIVES]
        if unknown:
            raise InputError(
                f"objectives {list(self.objectives)}: expected some of {', '.join(OBJECTIVES)}"
            )
        least = {"train_documents": 2, "test_documents": 1, "units": 2, "unit_size": 1}
        check_numbers(self, least | {"train_steps": 1})
        if self.dispatch not in DISPATCHES:
            raise InputError(f"dispatch {self.dispatch!r}: expected {' or '.join(DISPATCHES)}")
        costs = CHUNK_ACTIONS.costs
        if not isinstance(self.budget, int | float) or not costs[0] <= self.budget <= costs[-1]:
            raise InputError(
                f"budget is {self.budget!r}: expected a mean cost of {costs[0]:g} to {costs[-1]:g}"
            )
