"""The parameters of the convergence experiment; the defaults are the smoke preset."""

from dataclasses import dataclass

from ponderttt.checks import check_choices, check_numbers
from ponderttt.errors import InputError
from ponderttt.models.decoder.precision import Dtype
from ponderttt.prepare.inputs import check_common


@dataclass(frozen=True)
class ConvergenceConfig:
    """What to read, with which model, and how many steps to compare. Documents are per source."""

    model: str = "tiny"
    """A name that `TransformerLM.from_pretrained` knows, or a folder of safetensors."""
    dtype: Dtype = "auto"
    """Of the base's weights and the products with them; sums and activations are float32."""
    sources: tuple[str, ...] = ("packages", "go", "wikipedia")
    """Names of sources, or local folders."""
    train_documents: int = 2
    """Rates are tuned and slow weights trained on these; half as many validate them."""
    test_documents: int = 2
    units: int = 4
    """Units read of each document; shorter documents are left out."""
    unit_size: int = 64
    """Tokens per unit, which is also the base's attention window."""
    train_steps: int = 4
    k_values: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Inner steps a unit that are compared, ascending; none and infinitely many stand beside."""
    conditions: tuple[float, ...] = (2.0, 10.0, 100.0)
    """Condition numbers of the synthetic problem."""
    seed: int = 0

    def __post_init__(self):
        check_common(self)
        least = {"train_documents": 2, "test_documents": 1, "units": 2, "unit_size": 1}
        check_numbers(self, least | {"train_steps": 1})
        check_choices(self, "k_values", "conditions")
        steps = self.k_values
        if any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in steps):
            raise InputError(f"k_values {list(steps)}: expected whole numbers of 1 or more")
        if list(steps) != sorted({1, *steps}):
            raise InputError(
                f"k_values {list(steps)}: expected 1 and more of them, each once, ascending"
            )
        if not all(isinstance(c, int | float) and 1.5 <= c <= 1000 for c in self.conditions):
            raise InputError(
                f"conditions {list(self.conditions)}: expected numbers from 1.5 to 1000"
            )
