"""Attention over what was read before: against a dense one, its gradient, its summary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.dense import banded

from ponderttt.models import windowed_attention as module
from ponderttt.models.windowed_attention import (
    Past,
    extend,
    no_past,
    windowed_attention,
    windowed_summary,
)

B, U, G, R, D = 2, 6, 2, 3, 8


def units(count, seed=0):
    """Queries, keys and values of some units."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    return [(draw(B, U, G, R, D), draw(B, U, G, D), draw(B, U, G, D)) for _ in range(count)]


@pytest.fixture(params=[4, 12, 512])
def block(request, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", request.param)


@pytest.mark.parametrize("window", [6, 12, 24])
def test_unit_after_unit_is_the_dense_attention(block, window):
    past, read = no_past((B,), window, G, D, jnp.float32), units(5)
    for n, (q, k, v) in enumerate(read):
        out = windowed_attention(q, k, v, past, jnp.asarray(min(n * U, window)), window)
        keys, values = (jnp.concatenate([x[i] for x in read[: n + 1]], axis=1) for i in (1, 2))
        np.testing.assert_allclose(out, banded(q, keys, values, window)[0], atol=1e-5)
        past = extend(past, k, v)


def test_what_was_read_in_another_context_is_not_seen(block):
    (_, k0, v0), (q, k, v) = units(2)
    past = extend(no_past((B,), 12, G, D, jnp.float32), k0, v0)
    out = windowed_attention(q, k, v, past, jnp.asarray(0), 12)
    np.testing.assert_allclose(out, banded(q, k, v, 12)[0], atol=1e-6)
    other = windowed_attention(q, k, v, Past(past.k + 1, past.v - 2), jnp.asarray(0), 12)
    np.testing.assert_array_equal(out, other)


def test_the_gradient_is_that_of_the_dense_attention(block):
    read, window = units(3), 12
    past = no_past((B,), window, G, D, jnp.float32)
    for _, k, v in read[:2]:
        past = extend(past, k, v)
    before = [jnp.concatenate([x[i] for x in read[:2]], axis=1) for i in (1, 2)]
    weight = jnp.cos(jnp.arange(B * U * G * R * D, dtype=jnp.float32)).reshape(B, U, G, R, D)

    def ours(q, k, v):
        return jnp.sum(weight * windowed_attention(q, k, v, past, jnp.asarray(2 * U), window))

    def theirs(q, k, v):
        keys, values = (jnp.concatenate(x, axis=1) for x in zip(before, (k, v), strict=True))
        return jnp.sum(weight * banded(q, keys, values, window)[0])

    got, expected = (jax.grad(f, argnums=(0, 1, 2))(*read[2]) for f in (ours, theirs))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_documents_at_different_places_are_read_together(block):
    (_, k0, v0), (q, k, v) = units(2)
    past = extend(no_past((B,), 12, G, D, jnp.float32), k0, v0)
    one = lambda q, k, v, pk, pv, seen: windowed_attention(  # noqa: E731
        q[None], k[None], v[None], Past(pk[None], pv[None]), seen, 12
    )[0]
    seen = jnp.asarray([0, U])
    together = jax.vmap(one)(q, k, v, past.k, past.v, seen)
    for b in range(B):
        alone = one(q[b], k[b], v[b], past.k[b], past.v[b], seen[b])
        np.testing.assert_allclose(together[b], alone, atol=1e-6)


@pytest.mark.parametrize("seen", [0, U])
def test_the_summary_is_that_of_the_weights(seen):
    """Written out over one query at a time; and causal to the bit."""
    (_, k0, v0), (q, k, v) = units(2)
    window = 9
    past = extend(no_past((B,), 12, G, D, jnp.float32), k0, v0)
    summary = np.asarray(windowed_summary(q, k, past.k, jnp.asarray(seen), window))
    keys = jnp.concatenate([k0, k], axis=1)[:, U - seen :]
    for t in range(U):
        weights = np.asarray(banded(q, keys, keys, window)[1])[..., t, :]
        weights = weights[..., max(0, seen + t - window + 1) : seen + t + 1]
        entropy = -(weights * np.log(weights)).sum(-1) / np.log(window)
        expected = [
            entropy.mean((1, 2)), entropy.std((1, 2)), weights.max(-1).mean((1, 2)),
            (weights < 1 / window).mean((1, 2, 3)),
        ]  # fmt: skip
        np.testing.assert_allclose(summary[:, t], np.stack(expected, -1), rtol=1e-4, atol=1e-5)
    again = windowed_summary(q, k.at[:, 4:].add(1), past.k, jnp.asarray(seen), window)
    np.testing.assert_array_equal(again[:, :4], summary[:, :4])
    assert not np.array_equal(again[:, 4:], summary[:, 4:])
