"""From the tensors of a checkpoint to a decoder's parameters: tables of names and transforms."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ponderttt.errors import InputError
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.parameters import param_shapes


class Rule(NamedTuple):
    """Tensors whose name matches `pattern` become the parameter `target`.

    A group in the pattern is the block's number. `columns` names the part of the last axis that
    the tensor fills, where several share one parameter. No target: the tensor is not needed.
    """

    pattern: str
    target: str = ""
    columns: str = ""
    transform: Callable[[DecoderConfig, np.ndarray], np.ndarray] = lambda config, array: array


def transposed(config: DecoderConfig, array: np.ndarray) -> np.ndarray:
    """A weight stored [out, in]."""
    return array.T


def from_interleaved(config: DecoderConfig, array: np.ndarray) -> np.ndarray:
    """A query or key weight [out, in] whose rotary pairs are (2i, 2i + 1): to (i, i + half)."""
    pairs = array.reshape(-1, config.head_dim // 2, 2, array.shape[1])
    return transposed(config, pairs.swapaxes(1, 2).reshape(array.shape))


GGUF_LLAMA = [
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

_LAYER = r"model\.layers\.(\d+)\."
LLAMA = [
    Rule(r"model\.embed_tokens\.weight", "embedding"),
    Rule(r"lm_head\.weight", "output"),
    Rule(r"model\.norm\.weight", "final.norm_scale"),
    Rule(_LAYER + r"input_layernorm\.weight", "blocks.attention_norm_scale"),
    Rule(_LAYER + r"post_attention_layernorm\.weight", "blocks.mlp_norm_scale"),
    Rule(_LAYER + r"self_attn\.q_proj\.weight", "blocks.qkv", "q", transposed),
    Rule(_LAYER + r"self_attn\.k_proj\.weight", "blocks.qkv", "k", transposed),
    Rule(_LAYER + r"self_attn\.v_proj\.weight", "blocks.qkv", "v", transposed),
    Rule(_LAYER + r"self_attn\.o_proj\.weight", "blocks.attention_out", "", transposed),
    Rule(_LAYER + r"mlp\.gate_proj\.weight", "blocks.mlp_in", "gate", transposed),
    Rule(_LAYER + r"mlp\.up_proj\.weight", "blocks.mlp_in", "up", transposed),
    Rule(_LAYER + r"mlp\.down_proj\.weight", "blocks.mlp_out", "", transposed),
    Rule(_LAYER + r"self_attn\.rotary_emb\.inv_freq"),
]

# GPT-2 stores weights [in, out], query, key and value side by side.
_ROOT, _BLOCK = r"(?:transformer\.)?", r"(?:transformer\.)?h\.(\d+)\."
GPT2 = [
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
    Rule(_BLOCK + r"attn\.(?:bias|masked_bias)"),
]


def assemble(
    config: DecoderConfig,
    tensors: Iterable[tuple[str, np.ndarray]],
    rules: list[Rule],
    origin: str,
) -> dict[str, np.ndarray]:
    """Float32 parameters from named tensors; what does not fit `config` is an `InputError`."""
    params = {name: np.empty(shape, np.float32) for name, shape in param_shapes(config).items()}
    missing = {name: array.size for name, array in params.items()}
    for name, tensor in tensors:
        rule, match = _find(rules, name, origin)
        if rule.target not in params:
            continue  # not needed, or an output matrix that is tied to the embedding
        place = params[rule.target][..., column_slice(config, rule.columns)]
        layer = int(match.group(1)) if match.groups() else None
        array = rule.transform(config, tensor)
        shape = place.shape if layer is None else place.shape[1:]
        if array.shape != shape or (layer or 0) >= config.layers:
            raise InputError(
                f"{origin}: tensor {name} {array.shape} does not fit its configuration "
                f"({config.layers} blocks, here {shape}); weights and config.json disagree"
            )
        place[... if layer is None else layer] = array
        missing[rule.target] -= array.size
    short = sorted(name for name, count in missing.items() if count)
    if short:
        raise InputError(f"{origin}: incomplete, nothing fills {', '.join(short)}; fetch it again")
    return params


def column_slice(config: DecoderConfig, columns: str) -> slice:
    """The columns called q, k, v, gate or up of a parameter that several tensors share."""
    query, keyed = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        "": slice(None),
        "q": slice(query),
        "k": slice(query, query + keyed),
        "v": slice(query + keyed, None),
        "gate": slice(config.hidden),
        "up": slice(config.hidden, None),
    }[columns]


def _find(rules: list[Rule], name: str, origin: str) -> tuple[Rule, re.Match]:
    for rule in rules:
        if match := re.fullmatch(rule.pattern, name):
            return rule, match
    raise InputError(
        f"{origin}: tensor {name} is of no known kind; expected a Llama or GPT-2 language model"
    )
