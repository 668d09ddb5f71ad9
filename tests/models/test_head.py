import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ponderttt.models import head as module
from ponderttt.models.head import head_loss, head_nll, head_statistics


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 50)


def example(vocabulary=257, batch=(3, 7), width=16, seed=0, scale=1.0):
    keys = jax.random.split(jax.random.key(seed), 3)
    hidden = scale * jax.random.normal(keys[0], (*batch, width))
    head = jax.random.normal(keys[1], (vocabulary, width))
    return hidden, head, jax.random.randint(keys[2], batch, 0, vocabulary)


def plain_nll(hidden, head, targets):
    log_probs = jax.nn.log_softmax(hidden @ head.T)
    return -jnp.take_along_axis(log_probs, targets[..., None], -1)[..., 0]


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    vocabulary=st.sampled_from([1, 7, 49, 50, 51, 257, 300]),
    batch=st.sampled_from([(), (2, 3)]),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 3),
)
def test_nll_and_gradient_equal_the_plain_ones(vocabulary, batch, scale, seed):
    hidden, head, targets = example(vocabulary, batch, seed=seed, scale=scale)
    cotangent = jax.random.normal(jax.random.key(9), batch)

    def total(nll):
        return lambda hidden: jnp.sum(cotangent * nll(hidden, head, targets))

    np.testing.assert_allclose(
        head_nll(hidden, head, targets), plain_nll(hidden, head, targets),
        rtol=2e-5, atol=2e-5 * max(1.0, scale),  # of the logits' last digits
    )  # fmt: skip
    np.testing.assert_allclose(
        jax.grad(total(head_nll))(hidden), jax.grad(total(plain_nll))(hidden), rtol=1e-4, atol=1e-4
    )


def test_extreme_logits_stay_finite():
    hidden, head, targets = example(scale=1e4)
    value, gradient = jax.value_and_grad(lambda h: head_nll(h, head, targets).sum())(hidden)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_statistics_come_from_the_same_softmax():
    hidden, head, targets = example()
    log_probs = jax.nn.log_softmax(hidden @ head.T)
    statistics = head_statistics(hidden, head, targets)
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
    np.testing.assert_allclose(statistics.nll, plain_nll(hidden, head, targets), atol=1e-4)
    np.testing.assert_allclose(statistics.entropy, entropy, atol=1e-4)
    np.testing.assert_allclose(statistics.max_log_prob, log_probs.max(-1), atol=1e-4)


def test_under_vmap_scan_map_and_while_loop():
    hidden, head, targets = example(batch=(4, 6))
    expected = jax.grad(lambda h: plain_nll(h, head, targets).sum())(hidden)

    def gradient(h, y):
        return jax.grad(lambda h: head_nll(h, head, y).sum())(h)

    def descend(h, y):
        body = lambda state: (state[0] + 1, state[1] + gradient(h, y))  # noqa: E731
        return jax.lax.while_loop(lambda state: state[0] < 2, body, (0, jnp.zeros_like(h)))[1]

    scanned = jax.lax.scan(lambda c, xy: (c, gradient(*xy)), 0, (hidden, targets))[1]
    mapped = jax.lax.map(lambda xy: gradient(*xy), (hidden, targets))
    for result in (jax.vmap(gradient)(hidden, targets), scanned, mapped):
        np.testing.assert_allclose(result, expected, atol=1e-4)
    np.testing.assert_allclose(jax.vmap(descend)(hidden, targets), 2 * expected, atol=2e-4)


def test_gradients_pass_through_a_gradient():
    hidden, head, targets = example(vocabulary=40, batch=(3,), width=5)

    def after_one_step(nll):
        def loss(hidden):
            step = jax.grad(lambda h: nll(h, head, targets).mean())(hidden)
            return nll(hidden - 0.5 * step, head, targets).mean()

        return jax.grad(loss)(hidden)

    np.testing.assert_allclose(after_one_step(head_nll), after_one_step(plain_nll), atol=1e-5)


def test_no_array_as_large_as_the_logits():
    hidden, head, targets = example(vocabulary=6000, batch=(64,))
    step = jax.jit(jax.value_and_grad(lambda h: head_nll(h, head, targets).sum()))
    text = step.lower(hidden).as_text()
    assert "64x50xf32" in text and "64x6000xf32" not in text


def test_the_head_gets_no_gradient():
    hidden, head, targets = example()
    gradient = jax.grad(lambda e: head_nll(hidden, e, targets).sum())(head)
    assert not np.any(gradient)


@pytest.mark.parametrize("position", [0, 3, 6])
def test_a_position_sees_only_itself(position):
    hidden, head, targets = example(batch=(7,))
    before = np.asarray(head_nll(hidden, head, targets))
    after = np.asarray(head_nll(hidden.at[position].add(1.0), head, targets))
    keep = np.arange(7) != position
    np.testing.assert_array_equal(after[keep], before[keep])
    assert after[position] != before[position]


@pytest.mark.parametrize("count", [5, 256, 300])
def test_the_loss_of_a_trained_head_and_both_gradients_are_the_plain_ones(count):
    hidden, head, targets = example(vocabulary=37, batch=(count,))
    weights = jax.random.uniform(jax.random.key(4), (count,)) / count
    weights = jnp.where(jnp.arange(count) % 3 > 0, weights, 0.0)  # every third token is not scored

    def plain(hidden, head):
        nll = optax.softmax_cross_entropy_with_integer_labels(hidden @ head.T, targets)
        return 2 * jnp.sum(weights * nll), nll

    def ours(hidden, head):
        loss, nll = head_loss(hidden, head, targets, weights)
        return 2 * loss, nll

    both = [
        jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(hidden, head)
        for f in (ours, plain)
    ]
    for got, expected in zip(*(jax.tree.leaves(each) for each in both), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    value, nll = head_loss(hidden, head, targets, weights)  # without a gradient: another path
    np.testing.assert_allclose(value, jnp.sum(weights * nll), rtol=1e-6)
    np.testing.assert_allclose(nll, both[1][0][1], rtol=1e-4, atol=1e-5)


def test_what_is_told_of_each_token_has_no_gradient_and_extremes_are_finite():
    hidden, head, targets = example(batch=(7,), scale=1e4)
    weights = jnp.full(7, 1 / 7)
    told = jax.grad(lambda h, e: head_loss(h, e, targets, weights)[1].sum(), argnums=(0, 1))
    assert not any(np.any(each) for each in told(hidden, head))
    summed = jax.value_and_grad(lambda h, e: head_loss(h, e, targets, weights)[0], argnums=(0, 1))
    assert all(np.isfinite(each).all() for each in jax.tree.leaves(summed(hidden, head)))
