"""What a decoder is made of: one frozen dataclass, one class method per known model."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, Self

from ponderttt.errors import InputError

Family = Literal["llama", "gpt2"]
Activation = Literal["swiglu", "gelu_tanh", "gelu"]
SIZES = "vocab_size width layers heads kv_heads head_dim hidden max_positions".split()


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder-only transformer, pre-norm, as a set of independent choices.

    A family is a setting of the choices below the blank line; GPT-NeoX would be layer norm,
    `rotary_fraction` 0.25, `parallel_residual` and an untied head.
    """

    family: Family
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

    @classmethod
    def llama(
        cls,
        *,
        vocab_size: int,
        width: int,
        layers: int,
        heads: int,
        kv_heads: int,
        hidden: int,
        max_positions: int,
        head_dim: int | None = None,
        norm_eps: float = 1e-5,
        rope_base: float = 10_000.0,
        tied_head: bool = True,
    ) -> Self:
        """Llama family: RMS norm, rotary positions, grouped queries, SwiGLU, no biases."""
        return cls(
            family="llama",
            vocab_size=vocab_size,
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim or width // heads,
            hidden=hidden,
            max_positions=max_positions,
            norm="rms",
            norm_eps=norm_eps,
            activation="swiglu",
            bias=False,
            positions="rotary",
            rope_base=rope_base,
            tied_head=tied_head,
        )

    @classmethod
    def gpt2(
        cls,
        *,
        vocab_size: int = 50257,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        hidden: int | None = None,
        max_positions: int = 1024,
        norm_eps: float = 1e-5,
        activation: Activation = "gelu_tanh",
        tied_head: bool = True,
    ) -> Self:
        """GPT-2 family (the defaults are the 124M model): layer norm, learned positions, biases."""
        return cls(
            family="gpt2",
            vocab_size=vocab_size,
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=heads,
            head_dim=width // heads,
            hidden=hidden or 4 * width,
            max_positions=max_positions,
            norm="layer",
            norm_eps=norm_eps,
            activation=activation,
            bias=True,
            positions="learned",
            tied_head=tied_head,
        )

    @classmethod
    def gpt2_medium(cls) -> Self:
        """GPT-2 355M."""
        return cls.gpt2(width=1024, layers=24, heads=16)

    @classmethod
    def gpt2_large(cls) -> Self:
        """GPT-2 774M."""
        return cls.gpt2(width=1280, layers=36, heads=20)

    @classmethod
    def gpt2_xl(cls) -> Self:
        """GPT-2 1.5B."""
        return cls.gpt2(width=1600, layers=48, heads=25)

    @classmethod
    def smollm2_135m(cls) -> Self:
        """SmolLM2-135M, a Llama."""
        return cls.llama(
            vocab_size=49152,
            width=576,
            layers=30,
            heads=9,
            kv_heads=3,
            hidden=1536,
            max_positions=8192,
            rope_base=100_000.0,
        )

    @classmethod
    def tiny(cls, family: Family = "llama") -> Self:
        """Two layers over the 257 symbols of the byte tokenizer, for smoke runs and tests."""
        if family == "gpt2":
            return cls.gpt2(vocab_size=257, width=32, layers=2, heads=4, max_positions=2048)
        return cls.llama(
            vocab_size=257,
            width=32,
            layers=2,
            heads=4,
            kv_heads=2,
            hidden=64,
            max_positions=2048,
        )

    def replace(self, **changes) -> Self:
        """The same configuration with some choices changed."""
        return dataclasses.replace(self, **changes)
