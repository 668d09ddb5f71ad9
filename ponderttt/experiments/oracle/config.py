"""The parameters of the oracle experiment; the defaults are the smoke preset."""

from dataclasses import dataclass
from typing import Literal

from ponderttt.experiments.allocation import STREAMS, check_budgets, check_stream
from ponderttt.experiments.checks import check_choices, check_model_and_numbers, check_numbers
from ponderttt.types import InputError


@dataclass(frozen=True)
class OracleConfig:
    """What to read, with which model, and how widely to search. Documents are per source."""

    model: str = "tiny"
    """A name that `TransformerLM.from_pretrained` knows, or a folder of safetensors."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the base's weights and the products with them; sums and activations are float32."""
    streams: tuple[str, ...] = ("mixed", "python")
    """`mixed` (Python, Go, Zig and Wikipedia in turn), `python`, `shifted` (tuned on Python)."""
    train_documents: int = 2
    """The inner rate is tuned on these; half as many (at least 2) choose the control."""
    test_documents: int = 2
    units: int = 4
    """Units read of each document; shorter documents are left out."""
    unit_size: int = 64
    budgets: tuple[float, ...] = (2.0, 3.125, 5.0)
    """Mean nominal cost a unit, which the actions' 1, 3, 5 and 12 are counted against."""
    prices: tuple[float, ...] = (0.0, 0.005, 0.02)
    """Nats (a token, a unit) that a unit of cost is worth: each keeps a beam of its own."""
    width: int = 2
    """Allocations that each price keeps at every unit."""
    seed: int = 0

    def __post_init__(self):
        check_choices(self, "streams", "budgets", "prices")
        check_model_and_numbers(self)
        for name in self.streams:
            check_stream(name)
        if len(set(self.streams)) < len(self.streams):
            raise InputError(
                f"streams {list(self.streams)}: expected each of {', '.join(STREAMS)} once at most"
            )
        check_budgets(self.budgets)
        check_numbers(
            self,
            {"train_documents": 2, "test_documents": 1, "units": 2, "unit_size": 2, "width": 1},
        )
        for price in self.prices:
            if not isinstance(price, int | float) or price < 0:
                raise InputError(f"a price of {price!r}: expected 0 or more")
