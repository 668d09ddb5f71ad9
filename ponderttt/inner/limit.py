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

from ponderttt.errors import InputError
from ponderttt.inner.fast_weights import Fast


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
    Derivatives are those of the solution, by a second solve.
    """
    x = _keys(k, mask, "b" in fast)

    def curved(move):
        return x.T @ (x @ move) + ridge * move

    def solve(curved, b):
        first = jnp.sum(b**2)

        def going(carry):
            _, _, _, norm, taken = carry
            return (jnp.sum(norm) > tolerance**2 * first) & (taken < max_steps)

        def iterate(carry):
            move, residual, direction, norm, taken = carry
            bent = curved(direction)
            along = _ratio(norm, jnp.sum(direction * bent, axis=0))[None]  # one a column
            move, residual = move + along * direction, residual - along * bent
            new = jnp.sum(residual**2, axis=0)
            direction = residual + _ratio(new, norm)[None] * direction
            return move, residual, direction, new, taken + 1

        start = (jnp.zeros_like(b), b, b, jnp.sum(b**2, axis=0), jnp.zeros((), jnp.int32))
        move, *_, taken = jax.lax.while_loop(going, iterate, start)
        return move, taken

    residual = x.T @ (_rows(v, mask) - x @ joined(fast))
    move, taken = jax.lax.custom_linear_solve(curved, residual, solve, symmetric=True, has_aux=True)
    return Solved(_parted(fast, joined(fast) + move), taken)


def _ratio(a: Float[Array, "d"], b: Float[Array, "d"]) -> Float[Array, "d"]:
    """The quotient, and 0 where b is 0: a column that is solved stays so."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)
