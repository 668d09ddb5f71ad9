"""One step a mini-batch in matrix products: the dual form of TTT-Linear and TTT-MLP.

The answers need products of queries and keys, not the weights that each token would find
(Sun et al., 2407.04620, section 2.5). The outer backward goes through the text in reverse and takes
back what each mini-batch wrote: it keeps what a mini-batch computed, and never a pair of weights.
What is taken back is off by the rounding of the largest weights that the text ever led to, so after
a divergence the derivatives at earlier tokens are wrong; `mini_batch.primal` keeps them.
Axes: T tokens, b tokens a mini-batch, d head width, h hidden; `*lead` are heads and documents.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ponderttt.inner.fast_weights import (
    Fast,
    add_outer,
    add_outer_vjp,
    apply_linear,
    gelu_and_slope,
)
from ponderttt.inner.mini_batch import Rates
from ponderttt.inner.objectives import Norm, answer, output_gradient
from ponderttt.inner.pieces import cut, join


class Piece(NamedTuple):
    """A mini-batch, or all of a text's along an axis in front."""

    q: Float[Array, "*lead b d"]
    k: Float[Array, "*lead b d"]
    v: Float[Array, "*lead b d"]
    eta: Float[Array, "*lead b b"]
    """Rates, 0 where the gradient would come from a later token than the answer."""

    @property
    def last(self) -> Float[Array, "*lead b 1"]:
        """The rates of the step that the whole mini-batch writes."""
        return self.eta[..., -1, :, None]


def dual(
    fast: Fast,
    q: Float[Array, "*lead T d"],
    k: Float[Array, "*lead T d"],
    v: Float[Array, "*lead T d"],
    rates: Rates,
    *,
    model: str,
    norm: Norm | None,
) -> tuple[Float[Array, "*lead T d"], Fast]:
    """A mini-batch at a time; T is a multiple of the mini-batch."""
    b, length = rates.position.shape[0], q.shape[-2]
    q, k, v, token = (cut(x, b) for x in (q, k, v, rates.token[..., None]))
    eta = jnp.tril(rates.position.reshape((1,) * (q.ndim - 2) + (b, 1)) * token.mT)
    fast, out = _read(model, fast, Piece(q, k, v, eta.astype(q.dtype)), norm)
    return join(out, length), fast


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _read(model: str, fast: Fast, text: Piece, norm: Norm | None):
    return _forward(model, fast, text, norm)[0]


def _forward(model, fast, text, norm):
    read, _ = _KINDS[model]
    fast, (out, residuals) = jax.lax.scan(lambda fast, piece: read(fast, piece, norm), fast, text)
    return (fast, out), (fast, text, norm, residuals)


def _backward(model, known, cotangents):
    last, text, norm, residuals = known
    _, pull = _KINDS[model]

    def back(carry, x):
        moved, ct_moved, ct_norm = carry
        fast, ct_fast, ct_piece, of_piece = pull(moved, ct_moved, norm, *x)
        return (fast, ct_fast, jax.tree.map(jnp.add, ct_norm, of_piece)), ct_piece

    ct_last, ct_out = cotangents
    start = (last, ct_last, jax.tree.map(jnp.zeros_like, norm))
    (_, ct_fast, ct_norm), ct_text = jax.lax.scan(
        back, start, (text, residuals, ct_out), reverse=True
    )
    return ct_fast, ct_text, ct_norm


_read.defvjp(_forward, _backward)


def _pull_write(piece: Piece, x, g, ct_w, ct_b):
    """From a layer as it was written to its inputs `x`, their gradients `g`, and the rates."""
    ct_x, ct_scaled = add_outer_vjp(x, piece.last * g, ct_w, ct_b)
    return ct_x, piece.last * ct_scaled, jnp.sum(ct_scaled * g, axis=-1)


def _linear_factors(piece: Piece, g: Float[Array, "*lead b d"]) -> dict[str, tuple]:
    return {"w": (piece.k, piece.last * g), "b": (None, piece.last * g)}


def _linear_read(fast: Fast, piece: Piece, norm: Norm | None):
    q, k, v, eta = piece
    z = apply_linear(fast, jnp.concatenate([k, q], axis=-2))
    zk, zq = jnp.split(z, 2, axis=-2)
    g = output_gradient(zk, k, v, norm)
    o = zq - (eta * (q @ k.mT + int("b" in fast))) @ g
    moved = add_outer(fast, _linear_factors(piece, g), -1)
    return moved, (answer(o, q, norm), (zk, g, o))


def _linear_bwd(moved: Fast, ct_moved: Fast, norm: Norm | None, piece: Piece, residuals, ct_out):
    q, k, v, eta = piece
    zk, g, o = residuals
    pairs = q @ k.mT + int("b" in moved)
    fast = add_outer(moved, _linear_factors(piece, g), 1)

    _, through_answer = jax.vjp(answer, o, q, norm)
    ct_o, ct_q, norm_of_q = through_answer(ct_out)
    ct_k, ct_g, ct_last = _pull_write(piece, k, g, ct_moved["w"], ct_moved.get("b"))
    _, through_gradient = jax.vjp(output_gradient, zk, k, v, norm)
    ct_zk, of_k, ct_v, norm_of_k = through_gradient(ct_g - (eta * pairs).mT @ ct_o)
    ct_reach = -(ct_o @ g.mT)
    ct_pairs = ct_reach * eta

    ct_z = jnp.concatenate([ct_zk, ct_o], axis=-2)
    both = jnp.concatenate([k, q], axis=-2)
    ct_fast = add_outer(ct_moved, {"w": (both, ct_z), "b": (None, ct_z)}, 1)
    through_k, through_q = jnp.split(ct_z @ fast["w"].mT, 2, axis=-2)
    ct_piece = Piece(
        ct_q + through_q + ct_pairs @ k, ct_k + of_k + through_k + ct_pairs.mT @ q, ct_v,
        (ct_reach * pairs).at[..., -1, :].add(ct_last),
    )  # fmt: skip
    return fast, ct_fast, ct_piece, jax.tree.map(jnp.add, norm_of_q, norm_of_k)


class _MLPResiduals(NamedTuple):
    """What an mlp computed of a mini-batch: 1 and 2 are its layers, `k` and `q` whose inputs."""

    z1k: Float[Array, "*lead b h"]
    z1q: Float[Array, "*lead b h"]
    z2k: Float[Array, "*lead b d"]
    z2q: Float[Array, "*lead b d"]
    g2: Float[Array, "*lead b d"]
    pull: Float[Array, "*lead b h"]
    """`g2` come back through the second weights."""


def _mlp_factors(piece: Piece, x2, g1, g2) -> dict[str, tuple]:
    scaled1, scaled2 = piece.last * g1, piece.last * g2
    return {
        "w1": (piece.k, scaled1), "b1": (None, scaled1), "w2": (x2, scaled2), "b2": (None, scaled2)
    }  # fmt: skip


def _mlp_read(fast: Fast, piece: Piece, norm: Norm | None):
    q, k, v, eta = piece
    w1, w2 = fast["w1"], fast["w2"]
    b1, b2 = fast["b1"][..., None, :], fast["b2"][..., None, :]
    z1k, z1q = jnp.split(jnp.concatenate([k, q], axis=-2) @ w1 + b1, 2, axis=-2)
    x2, slope = gelu_and_slope(z1k)
    z2k = x2 @ w2 + b2
    g2 = output_gradient(z2k, k, v, norm)
    pull = g2 @ w2.mT
    g1 = pull * slope
    z1q = z1q - (eta * (q @ k.mT + 1)) @ g1
    y2, _ = gelu_and_slope(z1q)
    z2q = y2 @ w2 + b2 - (eta * (y2 @ x2.mT + 1)) @ g2
    residuals = _MLPResiduals(z1k, z1q, z2k, z2q, g2, pull)
    moved = add_outer(fast, _mlp_factors(piece, x2, g1, g2), -1)
    return moved, (answer(z2q, q, norm), residuals)


def _mlp_bwd(moved: Fast, ct_moved: Fast, norm: Norm | None, piece: Piece, residuals, ct_out):
    q, k, v, eta = piece
    z1k, z1q, z2k, z2q, g2, pull = residuals
    (x2, slope), through_slope = jax.vjp(gelu_and_slope, z1k)
    y2, slope_of_q = gelu_and_slope(z1q)
    g1 = pull * slope
    pairs1, pairs2 = q @ k.mT + 1, y2 @ x2.mT + 1
    fast = add_outer(moved, _mlp_factors(piece, x2, g1, g2), 1)
    w1, w2 = fast["w1"], fast["w2"]

    _, through_answer = jax.vjp(answer, z2q, q, norm)
    ct_z2q, ct_q, norm_of_q = through_answer(ct_out)
    ct_x2, ct_g2, last2 = _pull_write(piece, x2, g2, ct_moved["w2"], ct_moved["b2"])
    ct_k, ct_g1, last1 = _pull_write(piece, k, g1, ct_moved["w1"], ct_moved["b1"])

    ct_reach2 = -(ct_z2q @ g2.mT)
    ct_pairs2 = ct_reach2 * eta
    ct_z1q = (ct_z2q @ w2.mT + ct_pairs2 @ x2) * slope_of_q
    ct_reach1 = -(ct_z1q @ g1.mT)
    ct_pairs1 = ct_reach1 * eta
    ct_g1 -= (eta * pairs1).mT @ ct_z1q
    ct_pull = ct_g1 * slope
    ct_g2 += ct_pull @ w2 - (eta * pairs2).mT @ ct_z2q
    _, through_gradient = jax.vjp(output_gradient, z2k, k, v, norm)
    ct_z2k, of_k, ct_v, norm_of_k = through_gradient(ct_g2)
    ct_x2 += ct_z2k @ w2.mT + ct_pairs2.mT @ y2
    (ct_z1k,) = through_slope((ct_x2, ct_g1 * pull))

    ct_z1 = jnp.concatenate([ct_z1k, ct_z1q], axis=-2)
    ct_z2 = jnp.concatenate([ct_z2k, ct_z2q, g2], axis=-2)
    inner = jnp.concatenate([x2, y2, ct_pull], axis=-2)
    both = jnp.concatenate([k, q], axis=-2)
    ct_fast = add_outer(
        ct_moved,
        {
            "w1": (both, ct_z1), "b1": (None, ct_z1),
            "w2": (inner, ct_z2), "b2": (None, ct_z2k + ct_z2q),
        },
        1,
    )  # fmt: skip
    through_k, through_q = jnp.split(ct_z1 @ w1.mT, 2, axis=-2)
    ct_piece = Piece(
        ct_q + through_q + ct_pairs1 @ k, ct_k + of_k + through_k + ct_pairs1.mT @ q, ct_v,
        (ct_reach1 * pairs1 + ct_reach2 * pairs2).at[..., -1, :].add(last1 + last2),
    )  # fmt: skip
    return fast, ct_fast, ct_piece, jax.tree.map(jnp.add, norm_of_q, norm_of_k)


_KINDS = {"linear": (_linear_read, _linear_bwd), "mlp": (_mlp_read, _mlp_bwd)}
