"""Which parameters a decoder has, their shapes and their random start."""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ponderttt.models.decoder.config import DecoderConfig


def projection_shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a block's products; `q`, `k` and `v` are parts of `qkv`."""
    query, keyed = config.heads * config.head_dim, config.kv_heads * config.head_dim
    inner = 2 * config.hidden if config.activation == "swiglu" else config.hidden
    return {
        "qkv": (config.width, query + 2 * keyed),
        "q": (config.width, query),
        "k": (config.width, keyed),
        "v": (config.width, keyed),
        "attention_out": (query, config.width),
        "mlp_in": (config.width, inner),
        "mlp_out": (config.hidden, config.width),
    }


def param_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by name; those of the blocks (`blocks.*`) are stacked along L."""
    width, layers = config.width, config.layers
    parts = ["scale", "bias"] if config.norm == "layer" else ["scale"]
    shapes: dict[str, tuple[int, ...]] = {"embedding": (config.vocab_size, width)}
    if config.positions == "learned":
        shapes["positions"] = (config.max_positions, width)
    if not config.tied_head:
        shapes["output"] = (config.vocab_size, width)
    for part in parts:
        shapes[f"final.norm_{part}"] = (width,)
        shapes[f"blocks.attention_norm_{part}"] = (layers, width)
        shapes[f"blocks.mlp_norm_{part}"] = (layers, width)
    projections = projection_shapes(config)
    biased = {
        "qkv": config.qkv_bias, "attention_out": config.attention_out_bias,
        "mlp_in": config.mlp_bias, "mlp_out": config.mlp_bias,
    }  # fmt: skip
    for name, has_bias in biased.items():
        shapes[f"blocks.{name}"] = (layers, *projections[name])
        if has_bias:
            shapes[f"blocks.{name}_bias"] = (layers, projections[name][1])
    return shapes


def initial_params(config: DecoderConfig, key: PRNGKeyArray, dtype) -> dict[str, jax.Array]:
    """Tables from N(0, 0.02^2), weights from N(0, 1/in), residual outputs over sqrt(2L)."""
    shapes = param_shapes(config)
    params = {}
    for (name, shape), leaf_key in zip(
        shapes.items(), jax.random.split(key, len(shapes)), strict=True
    ):
        if name.endswith("_scale"):
            params[name] = jnp.ones(shape, dtype)
        elif name.endswith("_bias"):
            params[name] = jnp.zeros(shape, dtype)
        else:
            std = shape[-2] ** -0.5 if name.startswith("blocks.") else 0.02
            if name.endswith("_out"):
                std /= (2 * config.layers) ** 0.5
            params[name] = std * jax.random.normal(leaf_key, shape, dtype)
    return params
