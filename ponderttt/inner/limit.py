"""What more and more steps on one unit lead to: linear fast weights without a norm.

On `l(W) = 1/2 mean_t ||k_t W + b - v_t||^2` gradient descent converges, if it does, at the rate
`max |1 - rate * eigenvalue|` to the least-squares solution nearest to where it began.
Axes: U tokens of the unit, d head width, e = d + 1 with a bias, else d. One head; vmap over the
rest.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ponderttt.inner.fast_weights import Fast
from ponderttt.types import InputError


class Solved(NamedTuple):
    """Fast weights, and the conjugate-gradient iterations that they took."""

    fast: Fast
    iterations: Int[Array, ""]


def _rows(x: Float[Array, "U e"], mask: Bool[Array, "U"] | None) -> Float[Array, "U e"]:
    """Over sqrt(n), and zero where masked: the mean over tokens becomes a plain sum."""
    if mask is None:
        return x * x.shape[0] ** -0.5
    count = jnp.maximum(jnp.sum(mask), 1).astype(x.dtype)
    return jnp.where(mask[:, None], x, 0) * jax.lax.rsqrt(count)


def _keys(k: Float[Array, "U d"], mask: Bool[Array, "U"] | None, bias: bool):
    """The rows that multiply the joined weights: a bias is one more key, equal to 1."""
    ones = jnp.ones((k.shape[0], int(bias)), k.dtype)
    return _rows(jnp.concatenate([k, ones], axis=-1), mask)


def joined(fast: Fast) -> Float[Array, "e d"]:
    """The weights with the bias as their last row: what multiplies a key and a 1."""
    if not set(fast) <= {"w", "b"}:
        raise InputError(
            f"fast weights {', '.join(sorted(fast))}: the limit is known for linear ones without "
            "a norm; use adapt"
        )
    return jnp.concatenate([fast["w"], fast["b"][None]]) if "b" in fast else fast["w"]


def _parted(fast: Fast, whole: Float[Array, "e d"]) -> Fast:
    return {"w": whole[:-1], "b": whole[-1]} if "b" in fast else {"w": whole}


def curvature(
    k: Float[Array, "U d"], mask: Bool[Array, "U"] | None = None, *, bias: bool = True
) -> tuple[Float[Array, "e"], Float[Array, "e e"]]:
    """Eigenvalues, ascending, and eigenvectors of the unit's loss: all rates follow from them."""
    x = _keys(k, mask, bias)
    return jnp.linalg.eigh(x.T @ x)


def largest_stable_rate(
    k: Float[Array, "U d"], mask: Bool[Array, "U"] | None = None, *, bias: bool = True
) -> Float[Array, ""]:
    """Below it gradient descent on the unit converges: 2 over the largest eigenvalue."""
    return 2 / curvature(k, mask, bias=bias)[0][-1]


def limit(
    fast: Fast,
    k: Float[Array, "U d"],
    v: Float[Array, "U d"],
    *,
    ridge: float | Float[Array, ""] = 0.0,
    mask: Bool[Array, "U"] | None = None,
) -> Fast:
    """The weights of infinitely many steps, by one linear solve: `W_0 - X^+ (X W_0 - V)`.

    With `ridge`, the fixed point of steps that also decay: `ridge = decay / rate` adds
    `ridge/2 ||W - W_0||^2` to the loss.
    """
    x = _keys(k, mask, "b" in fast)
    error = x @ joined(fast) - _rows(v, mask)
    if isinstance(ridge, float | int) and ridge == 0:
        return _parted(fast, joined(fast) - jnp.linalg.pinv(x) @ error)
    gram = x.T @ x + ridge * jnp.eye(x.shape[1], dtype=x.dtype)
    move = jax.scipy.linalg.solve(gram, x.T @ error, assume_a="pos")
    return _parted(fast, joined(fast) - move)


def conjugate_gradient(
    fast: Fast,
    k: Float[Array, "U d"],
    v: Float[Array, "U d"],
    *,
    max_steps: int,
    tolerance: float = 1e-3,
    ridge: float | Float[Array, ""] = 0.0,
    mask: Bool[Array, "U"] | None = None,
) -> Solved:
    """`limit` by conjugate gradient that stops once the residual is `tolerance` of the first one.

    The iterations that it takes are an adaptive K: hard units take more (MesaNet, 2506.05233).
    One masked scan of `max_steps`, so that it is differentiable.
    """
    x = _keys(k, mask, "b" in fast)
    residual = x.T @ (_rows(v, mask) - x @ joined(fast))  # of (X'X + ridge) move = residual
    first = jnp.sum(residual**2)

    def iterate(carry, _):
        move, residual, direction, norm, taken = carry
        going = jnp.sum(norm) > tolerance**2 * first
        curved = x.T @ (x @ direction) + ridge * direction
        along = _ratio(norm, jnp.sum(direction * curved, axis=0))  # one a column
        moved, left = move + along[None] * direction, residual - along[None] * curved
        new = jnp.sum(left**2, axis=0)
        turned = left + _ratio(new, norm)[None] * direction
        after = (moved, left, turned, new, taken + 1)
        return jax.tree.map(lambda a, b: jnp.where(going, a, b), after, carry), None

    start = (
        jnp.zeros_like(residual), residual, residual, jnp.sum(residual**2, axis=0),
        jnp.zeros((), jnp.int32),
    )  # fmt: skip
    (move, *_, taken), _ = jax.lax.scan(iterate, start, None, length=max_steps)
    return Solved(_parted(fast, joined(fast) + move), taken)


def _ratio(a: Float[Array, "d"], b: Float[Array, "d"]) -> Float[Array, "d"]:
    """A / b, and 0 where b is 0: with finite derivatives there as well."""
    there = b > 0
    return jnp.where(there, a / jnp.where(there, b, 1), 0)
