"""Fast-weight models: what the inner loop changes. Leading axes (heads, documents) are welcome."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Fast = Any
"""A pytree of arrays, reset at the start of each document."""


class FastWeights(NamedTuple):
    """A fast-weight model: `init(key, width, hidden) -> fast` and `apply(fast, x) -> y`."""

    init: Callable[[PRNGKeyArray, int, int], Fast]
    apply: Callable[[Fast, Float[Array, "*lead U d"]], Float[Array, "*lead U d"]]


def _normal(key: PRNGKeyArray, *shape: int) -> jax.Array:
    return 0.02 * jax.random.normal(key, shape)


def init_linear(key: PRNGKeyArray, width: int, hidden: int) -> Fast:
    """`W ~ N(0, 0.02)`, `b = 0`, as TTT-Linear; `hidden` is not used."""
    return {"w": _normal(key, width, width), "b": jnp.zeros(width)}


def apply_linear(fast: Fast, x: Float[Array, "*lead U d"]) -> Float[Array, "*lead U d"]:
    """`x W + b`, or `x W` where there is no `b`."""
    out = x @ fast["w"]
    return out + fast["b"][..., None, :] if "b" in fast else out


def init_mlp(key: PRNGKeyArray, width: int, hidden: int) -> Fast:
    """`W1, W2 ~ N(0, 0.02)`, biases 0, as TTT-MLP (there `hidden = 4 width`)."""
    first, second = jax.random.split(key)
    return {
        "w1": _normal(first, width, hidden),
        "b1": jnp.zeros(hidden),
        "w2": _normal(second, hidden, width),
        "b2": jnp.zeros(width),
    }


def apply_mlp(fast: Fast, x: Float[Array, "*lead U d"]) -> Float[Array, "*lead U d"]:
    """`gelu(x W1 + b1) W2 + b2`, with the tanh approximation of the reference."""
    inner = jax.nn.gelu(x @ fast["w1"] + fast["b1"][..., None, :], approximate=True)
    return inner @ fast["w2"] + fast["b2"][..., None, :]


def gelu_and_slope(
    x: Float[Array, "*shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`gelu(x)` as in `apply_mlp`, and its derivative."""
    c, a = 0.7978845608028654, 0.044715  # sqrt(2 / pi), and the tanh approximation's constant
    t = jnp.tanh(c * x * (1 + a * x * x))
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * a * x * x)
    return 0.5 * x * (1 + t), slope


def outer_sum(
    x: Float[Array, "*lead M i"] | None, g: Float[Array, "*lead M o"]
) -> Float[Array, "*lead o"] | Float[Array, "*lead i o"]:
    """What `n` inputs with gradients `g` at a layer's output pull at: `x^T g`, or a bias's sum."""
    return jnp.sum(g, axis=-2) if x is None else x.mT @ g


def add_outer(fast: Fast, factors: dict[str, tuple], sign: int) -> Fast:
    """`fast` and `sign` times the products of its factors (`None` stands for a bias's ones)."""
    change = jnp.add if sign > 0 else jnp.subtract
    return {name: change(w, outer_sum(*factors[name])) for name, w in fast.items()}


def add_outer_vjp(
    x: Float[Array, "*lead M i"],
    g: Float[Array, "*lead M o"],
    ct_w: Float[Array, "*lead i o"],
    ct_b: Float[Array, "*lead o"] | None,
) -> tuple[Float[Array, "*lead M i"], Float[Array, "*lead M o"]]:
    """From the derivatives at `w - x^T g` and `b - sum(g)` (None without `b`) to `x` and `g`."""
    ct_g = -(x @ ct_w) - (0 if ct_b is None else ct_b[..., None, :])
    return -(g @ ct_w.mT), ct_g


FAST_WEIGHTS = {
    "linear": FastWeights(init_linear, apply_linear),
    "mlp": FastWeights(init_mlp, apply_mlp),
}


def additive(shape: tuple[int, ...]) -> Fast:
    """A full-rank addition `x -> x W` to a product, zero at first; `shape` is [..., in, out]."""
    return {"w": jnp.zeros(shape)}


def low_rank(key: PRNGKeyArray, shape: tuple[int, ...], rank: int) -> Fast:
    """A low-rank addition `x -> x A B` (LoRA): `A ~ N(0, 1/in)`, `B = 0`, so zero at the start."""
    *lead, width_in, width_out = shape
    a = jax.random.normal(key, (*lead, width_in, rank)) / jnp.sqrt(width_in)
    return {"a": a, "b": jnp.zeros((*lead, rank, width_out))}
