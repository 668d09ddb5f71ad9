"""GPT-NeoX (Pythia): layer norm, heads turned in part, attention and MLP in parallel, biases."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from ponderttt.checks import Bounds, Count, NonNegative, Positive, check
from ponderttt.models.decoder.checkpoint import Rule, transposed
from ponderttt.models.decoder.config import Activation, DecoderConfig
from ponderttt.models.decoder.families.config_file import HARMLESS, ONLY, read_keys
from ponderttt.models.decoder.families.family import Family, require
from ponderttt.models.decoder.families.rotary import Rotary, read_rotary


def config(
    *,
    vocab_size: int = 50304,
    width: int,
    layers: int,
    heads: int,
    hidden: int | None = None,
    max_positions: int = 2048,
    norm_eps: float = 1e-5,
    activation: Activation = "gelu",
    rotary: Rotary | None = None,
    parallel_residual: bool = True,
    attention_bias: bool = True,
    tied_head: bool = False,
) -> DecoderConfig:
    """A GPT-NeoX of these sizes; the defaults are what all of Pythia has in common."""
    rotary = rotary or Rotary(fraction=0.25)
    return DecoderConfig(
        family="gpt_neox",
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
        qkv_bias=attention_bias,
        attention_out_bias=attention_bias,
        mlp_bias=True,
        positions="rotary",
        rope_base=rotary.base,
        rope_scaling=rotary.scaling,
        rotary_fraction=rotary.fraction,
        parallel_residual=parallel_residual,
        tied_head=tied_head,
    )


PYTHIA = {
    "pythia-70m": config(width=512, layers=6, heads=8),
    "pythia-160m": config(width=768, layers=12, heads=12),
    "pythia-410m": config(width=1024, layers=24, heads=16),
    "pythia-1b": config(width=2048, layers=16, heads=8),
    "pythia-1.4b": config(width=2048, layers=24, heads=16),
}
"""Shapes of the models of Pythia (Biderman et al., 2304.01373, table 1)."""


def tiny() -> DecoderConfig:
    """Two layers over the 257 symbols of the byte tokenizer, for smoke runs and tests."""
    return config(vocab_size=257, width=32, layers=2, heads=2)


@dataclass(frozen=True)
class Keys:
    """What config.json says of a GPT-NeoX; the defaults are those of transformers."""

    vocab_size: Count = 50432
    hidden_size: Count = 6144
    num_hidden_layers: Count = 44
    num_attention_heads: Count = 64
    intermediate_size: Count = 24576
    hidden_act: Literal[
        "gelu", "gelu_python", "gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast",
        "gelu_accurate",
    ] = "gelu"  # fmt: skip
    max_position_embeddings: Count = 2048
    layer_norm_eps: NonNegative = 1e-5
    tie_word_embeddings: bool = False
    use_parallel_residual: bool = True
    attention_bias: bool = True
    rotary_pct: Annotated[float, Bounds(most=1, above=0)] | None = None
    rotary_emb_base: Positive | None = None
    rope_parameters: dict | None = None
    rope_scaling: dict | None = None

    def __post_init__(self):
        check(self)
        require(
            self.hidden_size % self.num_attention_heads == 0,
            f"hidden_size is {self.hidden_size}: expected a multiple of num_attention_heads, "
            f"{self.num_attention_heads}",
        )


def read_config(raw: dict) -> DecoderConfig:
    """From a `config.json`."""
    for name in ("rotary_pct", "rotary_emb_base"):
        require(raw.get(name, 0) is not None, f"{name} is null: expected a number or no such key")
    keys = read_keys(Keys, raw, only=ONLY, harmless=HARMLESS | {"classifier_dropout"})
    rotary = read_rotary(
        {"base": keys.rotary_emb_base, "fraction": keys.rotary_pct},
        {"rope_parameters": keys.rope_parameters, "rope_scaling": keys.rope_scaling},
        positions=keys.max_position_embeddings,
        default=Rotary(fraction=0.25),
        partial=True,
    )
    head = keys.hidden_size // keys.num_attention_heads
    turned = int(head * rotary.fraction)
    require(
        turned > 0 and turned % 2 == 0,
        f"rotary positions turn {turned} of a head's {head} dimensions ({rotary.fraction:g}): "
        "expected an even number of 2 or more",
    )
    return config(
        vocab_size=keys.vocab_size,
        width=keys.hidden_size,
        layers=keys.num_hidden_layers,
        heads=keys.num_attention_heads,
        hidden=keys.intermediate_size,
        max_positions=keys.max_position_embeddings,
        norm_eps=keys.layer_norm_eps,
        activation="gelu" if keys.hidden_act in ("gelu", "gelu_python") else "gelu_tanh",
        rotary=rotary,
        parallel_residual=keys.use_parallel_residual,
        attention_bias=keys.attention_bias,
        tied_head=keys.tie_word_embeddings,
    )


def by_kind(config: DecoderConfig, array: np.ndarray) -> np.ndarray:
    """Outputs [H * 3 * d, ...] that stand head by head, each q, k, v: to [..., 3 * H * d]."""
    by_head = array.reshape(config.heads, 3, config.head_dim, *array.shape[1:])
    return transposed(config, by_head.swapaxes(0, 1).reshape(array.shape))


# Weights are stored [out, in]; the base class is saved without the prefix.
_ROOT, _BLOCK = r"(?:gpt_neox\.)?", r"(?:gpt_neox\.)?layers\.(\d+)\."
RULES = [
    Rule(_ROOT + r"embed_in\.weight", "embedding"),
    Rule(r"(?:embed_out|lm_head)\.weight", "output"),
    Rule(_ROOT + r"final_layer_norm\.weight", "final.norm_scale"),
    Rule(_ROOT + r"final_layer_norm\.bias", "final.norm_bias"),
    Rule(_BLOCK + r"input_layernorm\.weight", "blocks.attention_norm_scale"),
    Rule(_BLOCK + r"input_layernorm\.bias", "blocks.attention_norm_bias"),
    Rule(_BLOCK + r"post_attention_layernorm\.weight", "blocks.mlp_norm_scale"),
    Rule(_BLOCK + r"post_attention_layernorm\.bias", "blocks.mlp_norm_bias"),
    Rule(_BLOCK + r"attention\.query_key_value\.weight", "blocks.qkv", "", by_kind),
    Rule(_BLOCK + r"attention\.query_key_value\.bias", "blocks.qkv_bias", "", by_kind),
    Rule(_BLOCK + r"attention\.dense\.weight", "blocks.attention_out", "", transposed),
    Rule(_BLOCK + r"attention\.dense\.bias", "blocks.attention_out_bias"),
    Rule(_BLOCK + r"mlp\.dense_h_to_4h\.weight", "blocks.mlp_in", "", transposed),
    Rule(_BLOCK + r"mlp\.dense_h_to_4h\.bias", "blocks.mlp_in_bias"),
    Rule(_BLOCK + r"mlp\.dense_4h_to_h\.weight", "blocks.mlp_out", "", transposed),
    Rule(_BLOCK + r"mlp\.dense_4h_to_h\.bias", "blocks.mlp_out_bias"),
    Rule(_BLOCK + r"attention\.(?:bias|masked_bias|rotary_emb\.inv_freq)"),  # buffers
    Rule(_ROOT + r"rotary_emb\.inv_freq"),
]

FAMILY = Family(
    read_config=read_config,
    rules=RULES,
    random={"tiny-neox": tiny()},
    hub={name: f"EleutherAI/{name}" for name in PYTHIA},
    shapes=PYTHIA,
)
