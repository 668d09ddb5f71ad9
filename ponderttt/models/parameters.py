"""Which parameters a decoder has, their shapes and their random start."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ponderttt.models.config import DecoderConfig


def param_shapes(config: DecoderConfig) -> dict[str, Any]:
    """Shapes of every parameter, as a nested dictionary; those of `blocks` lead with L."""
    width, hidden = config.width, config.hidden
    query, keyed = config.heads * config.head_dim, config.kv_heads * config.head_dim
    inner = 2 * hidden if config.activation == "swiglu" else hidden
    blocks: dict[str, tuple[int, ...]] = {
        "qkv": (width, query + 2 * keyed),
        "attention_out": (query, width),
        "mlp_in": (width, inner),
        "mlp_out": (hidden, width),
    }
    if config.bias:
        blocks |= {f"{name}_bias": shape[1:] for name, shape in list(blocks.items())}
    norm = ["scale", "bias"] if config.norm == "layer" else ["scale"]
    blocks |= {
        f"{name}_{part}": (width,) for name in ("attention_norm", "mlp_norm") for part in norm
    }
    shapes: dict[str, Any] = {
        "embedding": (config.vocab_size, width),
        "final": {f"norm_{part}": (width,) for part in norm},
        "blocks": {name: (config.layers, *shape) for name, shape in blocks.items()},
    }
    if config.positions == "learned":
        shapes["positions"] = (config.max_positions, width)
    if not config.tied_head:
        shapes["output"] = (config.vocab_size, width)
    return shapes


def initial_params(config: DecoderConfig, key: PRNGKeyArray, dtype) -> dict[str, Any]:
    """Random parameters: tables N(0, 0.02), weights N(0, 1/in), residual outputs over sqrt(2L)."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(
        param_shapes(config), is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
    arrays = []
    for (path, shape), leaf_key in zip(leaves, jax.random.split(key, len(leaves)), strict=True):
        name = path[-1].key
        if name.endswith("_scale"):
            arrays.append(jnp.ones(shape, dtype))
        elif name.endswith("_bias"):
            arrays.append(jnp.zeros(shape, dtype))
        else:
            std = shape[-2] ** -0.5 if path[0].key == "blocks" else 0.02
            if name in ("attention_out", "mlp_out"):
                std /= (2 * config.layers) ** 0.5
            arrays.append(std * jax.random.normal(leaf_key, shape, dtype))
    return jax.tree_util.tree_unflatten(tree, arrays)
