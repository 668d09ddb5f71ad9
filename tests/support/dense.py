"""Windows written out plainly: every query over all keys, those it does not see masked."""

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.models.attention import rotary_angles
from ponderttt.models.decoder.decoder import block


def banded(q, k, v, window):
    """What the last tokens' queries attend to over their `window` keys, and their weights."""
    t, last = k.shape[1], q.shape[1]
    distance = np.arange(t - last, t)[:, None] - np.arange(t)[None]
    seen = (distance >= 0) & (distance < window)
    scores = jnp.einsum("BQGRd,BKGd->BGRQK", q, k) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(seen[None, None, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("BGRQK,BKGd->BQGRd", weights, v), weights


def prefix(lm, tokens, blocks, window):
    """What leaves the first `blocks` blocks of one file [1, T] read whole."""
    h = lm.decoder.embed(tokens)
    angles = rotary_angles(lm.config, h.shape[1])
    for layer in range(blocks):
        params = {name: param[...][layer] for name, param in lm.decoder.blocks.items()}
        attend = lambda q, k, v: (banded(q, k, v, window)[0], None)  # noqa: E731
        h, _ = block(lm.config, params, h, angles, {}, attend)
    return h
