"""What a decoder is made of: one frozen dataclass for every family."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from ponderttt.checks import Bounds, Count, NonNegative, Positive, check
from ponderttt.errors import InputError

Activation = Literal["swiglu", "gelu_tanh", "gelu"]


@dataclass(frozen=True)
class RotaryScaling:
    """Llama 3's way to read further than it was first trained to, `original_positions`.

    Pairs that turn fewer than `low_freq_factor` times in them turn `factor` times slower, those
    that turn more than `high_freq_factor` times as before, those between in part.
    """

    factor: Annotated[float, Bounds(1)]
    low_freq_factor: Positive
    high_freq_factor: Positive
    original_positions: Count

    def __post_init__(self):
        check(self)
        if self.low_freq_factor >= self.high_freq_factor:
            raise InputError(
                f"low_freq_factor is {self.low_freq_factor:g}: expected less than "
                f"high_freq_factor, {self.high_freq_factor:g}"
            )

    def scale(self, frequency: np.ndarray) -> np.ndarray:
        """Radians a token of each pair, from those without scaling."""
        turns = self.original_positions * frequency / (2 * np.pi)
        share = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = np.clip(share, 0, 1)
        return kept * frequency + (1 - kept) * frequency / self.factor


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
    rope_scaling: RotaryScaling | None = None
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
