"""One decoder for every family: blocks stacked along a leading layer axis, run by `lax.scan`.

Axes: B documents, T tokens, D width, H query heads, G key/value heads, R = H / G queries that
share a key, d head width, i and o inputs and outputs of a product, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ponderttt.models.attention import causal_attention, rotary_angles, rotate
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.lookup import rows_of
from ponderttt.models.windowed_attention import Past, extend, windowed_attention, windowed_summary

DELTA_NAMES = ("q", "k", "v", "attention_out", "mlp_in", "mlp_out")
"""Projections that fast weights can add to."""

Deltas = dict[str, dict[str, jax.Array]]
"""Fast additions to projections of m blocks, by name: low-rank
`{"a": [m, in, r], "b": [m, r, out]}` or full `{"w": [m, in, out]}`."""


class Context(NamedTuple):
    """Where a unit stands in its attention context."""

    angles: Float[Array, "U half"] | None
    """Of its positions, for rotary models."""
    seen: Int[Array, ""]
    """Tokens of the context that came before it."""
    window: int
    """How many keys a query meets, its own among them."""


class Decoder(nnx.Module):
    """Token embedding, L pre-norm blocks, final norm, output matrix. All methods are pure.

    `params` are shaped as `parameters.param_shapes` says; products read `x @ weight`.
    """

    def __init__(self, config: DecoderConfig, params: dict[str, Array]):
        self.config = config
        self.embedding = nnx.Param(params["embedding"])
        self.positions = nnx.Param(params["positions"]) if "positions" in params else None
        self.output = nnx.Param(params["output"]) if "output" in params else None
        self.final = nnx.data(_below("final.", params))
        self.blocks = nnx.data(_below("blocks.", params))

    @property
    def head(self) -> Float[Array, "V D"]:
        """The output matrix: the embedding, where the two are tied."""
        return (self.embedding if self.output is None else self.output)[...]

    def embed(
        self, tokens: Int[Array, "B T"], first: Int[Array, ""] | int = 0
    ) -> Float[Array, "B T D"]:
        """What enters block 0; positions count from `first` in each row."""
        h = rows_of(self.embedding[...], tokens)
        h = h.astype(jnp.float32)  # the stream between products, whatever the weights are
        if self.positions is not None:
            positions = jax.lax.dynamic_slice_in_dim(self.positions[...], first, tokens.shape[1])
            h = h + positions.astype(h.dtype)[None]
        return h

    def run_blocks(
        self,
        h: Float[Array, "B T D"],
        start: int,
        stop: int,
        deltas: Deltas | None = None,
    ) -> Float[Array, "B T D"]:
        """Blocks `start` to `stop - 1`, with `deltas` (leading axis `stop - start`) added."""
        angles = rotary_angles(self.config, h.shape[1])

        def step(h, params, delta, _):
            return block(self.config, params, h, angles, delta, whole)

        return self._scan(step, h, start, stop, deltas, None)[0]

    def read_unit(
        self,
        h: Float[Array, "B U D"],
        start: int,
        stop: int,
        context: Context,
        past: Past,
        deltas: Deltas | None = None,
    ) -> tuple[Float[Array, "B U D"], Past]:
        """`run_blocks` of one unit behind what was read before it, and the past with it.

        `past` holds keys and values of each block, [stop - start, B, G, past, d].
        """

        def step(h, params, delta, past: Past):
            def attend(q, k, v):
                attended = windowed_attention(q, k, v, past, context.seen, context.window)
                return attended, extend(past, k, v)

            return block(self.config, params, h, context.angles, delta, attend)

        return self._scan(step, h, start, stop, deltas, past)

    def _scan(self, step, h, start, stop, deltas, carried):
        """`step(h, params, delta, carried)` of block after block; what it gives beside h."""
        stacked = {name: param[...] for name, param in self.blocks.items()}

        def at(h, layer):
            # Indexed one block at a time: slicing start:stop first would copy all those weights.
            number, delta, carried = layer
            params = jax.tree.map(
                lambda p: jax.lax.dynamic_index_in_dim(p, number, keepdims=False), stacked
            )
            return step(h, params, delta, carried)

        return jax.lax.scan(at, h, (jnp.arange(start, stop), deltas or {}, carried))

    def last_attention(
        self, h: Float[Array, "B U D"], context: Context, past: Past
    ) -> Float[Array, "B U 4"]:
        """`windowed_summary` of the last block; `h` enters it, `past` is that block's."""
        params = {name: param[...][-1] for name, param in self.blocks.items()}
        x = normalize(self.config, params, "attention_norm", h)
        q, k, _ = queries_keys_values(self.config, params, x, context.angles, {})
        return windowed_summary(q, k, past.k, context.seen, context.window)

    def final_norm(self, h: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """The norm in front of the output matrix."""
        return normalize(self.config, {k: p[...] for k, p in self.final.items()}, "norm", h)


def _below(prefix: str, params: dict[str, Array]) -> dict[str, nnx.Param]:
    return {
        name.removeprefix(prefix): nnx.Param(array)
        for name, array in params.items()
        if name.startswith(prefix)
    }


Attend = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]
"""From queries, keys and values to what was attended to, and what is kept of them."""


def whole(q, k, v):
    """Attention within each row, nothing kept."""
    return causal_attention(q, k, v), None


def block(
    config: DecoderConfig,
    params: dict[str, jax.Array],
    h: Float[Array, "B T D"],
    angles: Float[Array, "T half"] | None,
    deltas: Deltas,
    attend: Attend,
) -> tuple[Float[Array, "B T D"], Any]:
    """One pre-norm block; every operation but `attend` works on single positions."""
    x = normalize(config, params, "attention_norm", h)
    attended, kept = attend(*queries_keys_values(config, params, x, angles, deltas))
    attended = attended.reshape(*h.shape[:2], -1)
    out = project(params, "attention_out", attended)
    out = add_delta(out, attended, deltas.get("attention_out"))
    after = h + out
    inner = h if config.parallel_residual else after
    return after + mlp(config, params, normalize(config, params, "mlp_norm", inner), deltas), kept


def queries_keys_values(config, params, x, angles, deltas: Deltas):
    """Per head and turned to their positions: `[B T G R d]`, `[B T G d]` and `[B T G d]`."""
    b, t, _ = x.shape
    query, keyed = config.heads * config.head_dim, config.kv_heads * config.head_dim
    q, k, v = jnp.split(project(params, "qkv", x), [query, query + keyed], axis=-1)
    q, k, v = (add_delta(y, x, deltas.get(n)) for n, y in (("q", q), ("k", k), ("v", v)))
    groups = config.heads // config.kv_heads
    q = q.reshape(b, t, config.kv_heads, groups, config.head_dim)  # heads h = g * R + r
    k = k.reshape(b, t, config.kv_heads, config.head_dim)
    v = v.reshape(b, t, config.kv_heads, config.head_dim)
    if angles is not None:
        q, k = rotate(q, angles[:, None, None]), rotate(k, angles[:, None])
    return q, k, v


def mlp(config, params, x, deltas: Deltas) -> Float[Array, "B T D"]:
    """The position-wise network of a block."""
    inner = add_delta(project(params, "mlp_in", x), x, deltas.get("mlp_in"))
    if config.activation == "swiglu":
        gate, up = jnp.split(inner, 2, axis=-1)
        inner = jax.nn.silu(gate) * up
    else:
        inner = jax.nn.gelu(inner, approximate=config.activation == "gelu_tanh")
    return add_delta(project(params, "mlp_out", inner), inner, deltas.get("mlp_out"))


def project(params, name: str, x: Float[Array, "B T i"]) -> Float[Array, "B T o"]:
    """`x` times the weight called `name`, plus its bias where it has one."""
    weight = params[name]
    y = jnp.matmul(x.astype(weight.dtype), weight, preferred_element_type=jnp.float32)
    bias = params.get(f"{name}_bias")
    return y if bias is None else y + bias.astype(y.dtype)[None, None]


def add_delta(
    y: Float[Array, "B T o"], x: Float[Array, "B T i"], delta: dict[str, jax.Array] | None
) -> Float[Array, "B T o"]:
    """`y` plus what the fast weights `delta` add to the product that made it from `x`."""
    if delta is None:
        return y
    added = x @ delta["w"] if "w" in delta else x @ delta["a"] @ delta["b"]
    return y + added.astype(y.dtype)


def normalize(config, params, name: str, h: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """RMS or layer norm over the width, in float32 whatever the weights are."""
    x = h.astype(jnp.float32)
    if config.norm == "layer":
        x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + config.norm_eps)
    x = x * params[f"{name}_scale"].astype(jnp.float32)[None, None]
    if config.norm == "layer":
        x = x + params[f"{name}_bias"].astype(jnp.float32)[None, None]
    return x.astype(h.dtype)
