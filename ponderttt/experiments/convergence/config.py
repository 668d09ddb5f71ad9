"""The parameters of the convergence experiment; the defaults are the smoke preset."""

from dataclasses import dataclass
from typing import Annotated

from ponderttt.checks import Bounds, Count, Seed, check
from ponderttt.errors import InputError
from ponderttt.models.decoder.precision import Dtype
from ponderttt.prepare.inputs import ModelName, SourceName


@dataclass(frozen=True)
class ConvergenceConfig:
    """What to read, with which model, and how many steps to compare. Documents are per source."""

    model: ModelName = "tiny"
    """A name that `TransformerLM.from_pretrained` knows, or a folder of safetensors."""
    dtype: Dtype = "auto"
    """Of the base's weights and the products with them; sums and activations are float32."""
    sources: tuple[SourceName, ...] = ("packages", "go", "wikipedia")
    """Names of sources, or local folders."""
    train_documents: Annotated[int, Bounds(2)] = 2
    """Rates are tuned and slow weights trained on these; half as many validate them."""
    test_documents: Count = 2
    units: Annotated[int, Bounds(2)] = 4
    """Units read of each document; shorter documents are left out."""
    unit_size: Count = 64
    """Tokens per unit, which is also the base's attention window."""
    train_steps: Count = 4
    k_values: tuple[Count, ...] = (1, 2, 4, 8, 16)
    """Inner steps a unit that are compared, ascending; none and infinitely many stand beside."""
    conditions: tuple[Annotated[float, Bounds(1.5, 1000)], ...] = (2.0, 10.0, 100.0)
    """Condition numbers of the synthetic problem."""
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        steps = self.k_values
        if list(steps) != sorted({1, *steps}):
            raise InputError(
                f"k_values {list(steps)}: expected 1 and more of them, each once, ascending"
            )
