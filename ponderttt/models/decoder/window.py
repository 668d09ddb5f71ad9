"""How far back the base attends, and where each unit stands in its attention context."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ponderttt.errors import InputError
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.types import Documents

FULL = 0
"""A window of all that the model was trained for."""


class Window(NamedTuple):
    """Every token is predicted from at most `tokens` tokens before it, of its own file.

    With `overlap` from exactly so many, where its file has them. Without, a file is read in chunks
    of `tokens` that do not see each other, as the seeds have it.
    """

    tokens: int
    overlap: bool = True

    @classmethod
    def of_unit(cls, unit: int) -> "Window":
        """The window in which no unit of `unit` tokens sees another."""
        return cls(unit, overlap=False)

    def check(self, config: DecoderConfig, unit: int) -> None:
        """An `InputError` unless the model has its positions, and it whole units of `unit`."""
        if self.tokens > config.max_positions:
            raise InputError(
                f"a window of {self.tokens} tokens: the model has positions for "
                f"{config.max_positions}; lower window to at most {config.max_positions}, or give "
                "0 for all of them"
            )
        if self.tokens < 1 or self.tokens % unit:
            raise InputError(
                f"a unit of {unit} tokens does not divide the window of {self.tokens} tokens: "
                "expected a multiple of it"
            )

    def places(self, documents: Documents) -> Int[np.ndarray, "B N"]:
        """How many units of its own attention context come before each unit."""
        within = documents.places
        if self.overlap:
            return within
        return within % (self.tokens // documents.tokens.shape[-1])


def window_of(
    config: DecoderConfig, unit: int, tokens: int = FULL, *, overlap: bool = True
) -> Window:
    """The window of `tokens` (`FULL`: the model's own) for units of `unit` tokens.

    One above the model's positions, and one that the unit does not divide, are an `InputError`.
    """
    if tokens == FULL:
        tokens = max(unit, config.max_positions // unit * unit)
    window = Window(tokens, overlap)
    window.check(config, unit)
    return window
