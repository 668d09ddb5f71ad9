"""GPT-2: layer norm, learned positions, biases."""

from dataclasses import dataclass
from typing import Literal

from ponderttt.checks import Count, NonNegative, check
from ponderttt.models.decoder.checkpoint import Rule
from ponderttt.models.decoder.config import Activation, DecoderConfig
from ponderttt.models.decoder.families.config_file import ONLY, read_keys
from ponderttt.models.decoder.families.family import Family, require


def config(
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
) -> DecoderConfig:
    """A GPT-2 of these sizes; the defaults are the 124M model."""
    return DecoderConfig(
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
        qkv_bias=True,
        attention_out_bias=True,
        mlp_bias=True,
        positions="learned",
        tied_head=tied_head,
    )


def gpt2() -> DecoderConfig:
    """GPT-2 124M."""
    return config()


def gpt2_medium() -> DecoderConfig:
    """GPT-2 355M."""
    return config(width=1024, layers=24, heads=16)


def gpt2_large() -> DecoderConfig:
    """GPT-2 774M."""
    return config(width=1280, layers=36, heads=20)


def gpt2_xl() -> DecoderConfig:
    """GPT-2 1.5B."""
    return config(width=1600, layers=48, heads=25)


def tiny() -> DecoderConfig:
    """Two layers over the 257 symbols of the byte tokenizer, for smoke runs and tests."""
    return config(vocab_size=257, width=32, layers=2, heads=4, max_positions=2048)


@dataclass(frozen=True)
class Keys:
    """What config.json says of a GPT-2; the defaults are those of transformers."""

    vocab_size: Count = 50257
    n_embd: Count = 768
    n_layer: Count = 12
    n_head: Count = 12
    n_inner: Count | None = None
    n_positions: Count = 1024
    activation_function: Literal[
        "gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate", "gelu",
        "gelu_python",
    ] = "gelu_new"  # fmt: skip
    layer_norm_epsilon: NonNegative = 1e-5
    tie_word_embeddings: bool = True
    scale_attn_by_inverse_layer_idx: bool = False

    def __post_init__(self):
        check(self)
        require(not self.scale_attn_by_inverse_layer_idx, "layer-scaled attention is unknown")
        require(
            self.n_embd % self.n_head == 0,
            f"n_embd is {self.n_embd}: expected a multiple of n_head, {self.n_head}",
        )


SPELLED = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}
"""Other names that transformers takes for the same."""


def read_config(raw: dict) -> DecoderConfig:
    """From a `config.json`."""
    keys = read_keys(Keys, raw, spelled=SPELLED, only=ONLY | {"scale_attn_weights": (True,)})
    return config(
        vocab_size=keys.vocab_size,
        width=keys.n_embd,
        layers=keys.n_layer,
        heads=keys.n_head,
        hidden=keys.n_inner,
        max_positions=keys.n_positions,
        norm_eps=keys.layer_norm_epsilon,
        activation="gelu" if keys.activation_function in ("gelu", "gelu_python") else "gelu_tanh",
        tied_head=keys.tie_word_embeddings,
    )


# Weights are stored [in, out]; query, key and value side by side.
_ROOT, _BLOCK = r"(?:transformer\.)?", r"(?:transformer\.)?h\.(\d+)\."
RULES = [
    Rule(_ROOT + r"wte\.weight", "embedding"),
    Rule(_ROOT + r"wpe\.weight", "positions"),
    Rule(r"lm_head\.weight", "output"),
    Rule(_ROOT + r"ln_f\.weight", "final.norm_scale"),
    Rule(_ROOT + r"ln_f\.bias", "final.norm_bias"),
    Rule(_BLOCK + r"ln_1\.weight", "blocks.attention_norm_scale"),
    Rule(_BLOCK + r"ln_1\.bias", "blocks.attention_norm_bias"),
    Rule(_BLOCK + r"ln_2\.weight", "blocks.mlp_norm_scale"),
    Rule(_BLOCK + r"ln_2\.bias", "blocks.mlp_norm_bias"),
    Rule(_BLOCK + r"attn\.c_attn\.weight", "blocks.qkv"),
    Rule(_BLOCK + r"attn\.c_attn\.bias", "blocks.qkv_bias"),
    Rule(_BLOCK + r"attn\.c_proj\.weight", "blocks.attention_out"),
    Rule(_BLOCK + r"attn\.c_proj\.bias", "blocks.attention_out_bias"),
    Rule(_BLOCK + r"mlp\.c_fc\.weight", "blocks.mlp_in"),
    Rule(_BLOCK + r"mlp\.c_fc\.bias", "blocks.mlp_in_bias"),
    Rule(_BLOCK + r"mlp\.c_proj\.weight", "blocks.mlp_out"),
    Rule(_BLOCK + r"mlp\.c_proj\.bias", "blocks.mlp_out_bias"),
    Rule(_BLOCK + r"attn\.(?:bias|masked_bias)"),  # masks, once kept as buffers
]

SHAPES = {
    "gpt2": gpt2(), "gpt2-medium": gpt2_medium(), "gpt2-large": gpt2_large(), "gpt2-xl": gpt2_xl(),
}  # fmt: skip

FAMILY = Family(
    read_config=read_config,
    rules=RULES,
    random={"tiny-gpt2": tiny()},
    hub={name: f"openai-community/{name}" for name in SHAPES},
    shapes=SHAPES,
    tokenizer="gpt2",
)
