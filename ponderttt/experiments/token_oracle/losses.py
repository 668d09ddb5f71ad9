"""The oracle of single tokens: every K at sampled positions, all others at a reference K.

A token's steps are taken before the next token is predicted, so its loss over a horizon begins with
the prediction made at that very position. Axes: B documents, T tokens, P positions, A options.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ponderttt.errors import InputError
from ponderttt.models.iterative.model import IterativeTransformerTTT, given


def sample_positions(
    mask: Bool[np.ndarray, "B T"], count: int, horizon: int, seed: int
) -> Int[np.ndarray, "B P"]:
    """`count` positions of each document, drawn without repetition, with a horizon behind each.

    Not the first, where nothing has been read and nothing is known of the token's difficulty.
    """
    lengths = mask.sum(axis=1)
    if int(lengths.min()) < 1 + count + horizon:
        raise InputError(
            f"a document has {int(lengths.min())} tokens: {count} positions with {horizon} tokens "
            f"behind them need {1 + count + horizon}; sample fewer or read longer documents"
        )
    rng = np.random.default_rng(seed)
    drawn = [1 + rng.choice(n - horizon - 1, size=count, replace=False) for n in lengths]
    return np.sort(np.stack(drawn), axis=1)


@partial(jax.jit, static_argnames=("graph", "horizon"))
def position_losses(
    graph: nnx.GraphDef,
    weights,
    inputs: Int[Array, "B T"],
    labels: Int[Array, "B T"],
    positions: Int[Array, "B P"],
    *,
    reference: Int[Array, ""] | int,
    horizon: int,
) -> tuple[Float[Array, "B P A"], Float[Array, "B P"]]:
    """What each option at each position makes of the text behind it, and how hard the token was.

    The sum of the losses (nats) of the `horizon` predictions from that position on; and the loss of
    the token at the position, predicted before it was read, where all tokens take `reference`.
    """
    model: IterativeTransformerTTT = nnx.merge(graph, weights)
    b, t = inputs.shape
    rows = jnp.arange(b)
    at = jnp.arange(t)[None]

    def losses(steps):
        reading = model.read(inputs, given(steps), jax.random.key(0))
        return model.loss(reading.hidden, labels)[1]

    base = jnp.full((b, t), reference)
    before = jnp.pad(losses(base), ((0, 0), (1, 0)))[:, :t]  # of the token read at t
    options = jnp.asarray(model.config.step_options)

    def changed(pair):
        position, option = pair  # [B], []
        nll = losses(base.at[rows, position].set(option))
        near = (at >= position[:, None]) & (at < position[:, None] + horizon)
        return jnp.sum(jnp.where(near, nll, 0.0), axis=1)

    count = positions.shape[1]
    pairs = (
        jnp.repeat(positions.T, len(options), axis=0),
        jnp.tile(options, count),
    )
    found = jax.lax.map(changed, pairs).reshape(count, len(options), b)
    return jnp.moveaxis(found, -1, 0), jnp.take_along_axis(before, positions, axis=1)
