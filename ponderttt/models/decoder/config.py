"""What a decoder is made of: one frozen dataclass for every family."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from ponderttt.checks import Bounds, Count, NonNegative, Positive, check
from ponderttt.errors import InputError

Activation = Literal["swiglu", "gelu_tanh", "gelu"]


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder-only transformer, pre-norm, as a set of independent choices.

    A family (`ponderttt.models.decoder.families`) is a setting of the choices below the blank line.
    """

    family: str
    vocab_size: Count
    width: Count
    layers: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    hidden: Count
    max_positions: Count

    norm: Literal["rms", "layer"]
    norm_eps: NonNegative
    activation: Activation
    qkv_bias: bool
    attention_out_bias: bool
    mlp_bias: bool
    positions: Literal["rotary", "learned"]
    rope_base: Positive = 10_000.0
    rotary_fraction: Annotated[float, Bounds(most=1, above=0)] = 1.0
    parallel_residual: bool = False
    tied_head: bool = True

    def __post_init__(self):
        check(self)
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

    def replace(self, **changes) -> "DecoderConfig":
        """The same configuration with some choices changed."""
        return dataclasses.replace(self, **changes)
