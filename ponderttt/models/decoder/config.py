"""What a decoder is made of: one frozen dataclass for every family."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, Self

from ponderttt.errors import InputError

Activation = Literal["swiglu", "gelu_tanh", "gelu"]
SIZES = "vocab_size width layers heads kv_heads head_dim hidden max_positions".split()


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder-only transformer, pre-norm, as a set of independent choices.

    A family (`ponderttt.models.decoder.families`) is a setting of the choices below the blank line;
    GPT-NeoX would be layer norm, `rotary_fraction` 0.25, `parallel_residual` and an untied head.
    """

    family: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    max_positions: int

    norm: Literal["rms", "layer"]
    norm_eps: float
    activation: Activation
    bias: bool
    positions: Literal["rotary", "learned"]
    rope_base: float = 10_000.0
    rotary_fraction: float = 1.0
    parallel_residual: bool = False
    tied_head: bool = True

    def __post_init__(self):
        for name in SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}: expected a positive integer")
        if self.heads % self.kv_heads:
            raise InputError(
                f"heads ({self.heads}) must be a multiple of kv_heads: {self.kv_heads}"
            )

    @property
    def rotary_dim(self) -> int:
        """How many of a head's dimensions are rotated: an even number, 0 for learned positions."""
        if self.positions != "rotary":
            return 0
        return int(self.head_dim * self.rotary_fraction) // 2 * 2

    def replace(self, **changes) -> Self:
        """The same configuration with some choices changed."""
        return dataclasses.replace(self, **changes)
