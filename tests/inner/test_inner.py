"""The descent against its definition, and the identities of one unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponderttt.errors import InputError
from ponderttt.inner import FAST_WEIGHTS, Views, adapt, reconstruction_loss
from ponderttt.inner.update_rules import SGD


def views_of(key, heads=2, tokens=6, width=4):
    q, k, v = jax.random.normal(key, (3, heads, tokens, width))
    ones = jnp.ones((heads, width))
    return Views(q, k, v, ones, 0 * ones, jnp.arange(tokens) < tokens - 1)


def fast_of(model, key, heads=2, width=4):
    init = FAST_WEIGHTS[model].init
    return jax.vmap(lambda k: init(k, width, 4 * width))(jax.random.split(key, heads))


def loss_of(model, norm):
    return lambda fast, views: reconstruction_loss(fast, views, model=model, norm=norm)


CASES = [(m, n) for m in FAST_WEIGHTS for n in (True, False)]


@pytest.mark.parametrize(("model", "norm"), CASES)
@pytest.mark.parametrize("dispatch", ["masked", "switch"])
def test_steps_are_plain_gradient_descent(model, norm, dispatch):
    views, fast = views_of(jax.random.key(0)), fast_of(model, jax.random.key(1))
    loss, rate = loss_of(model, norm), jnp.asarray([0.1, 0.03])
    rule = SGD(rate)
    expected = fast
    for steps in range(5):
        got = adapt(
            fast,
            views,
            jnp.asarray(steps),
            loss=loss,
            rule=rule,
            max_steps=4,
            dispatch=dispatch,
        )
        for name in fast:
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-5)
        grads = jax.grad(loss)(expected, views)
        expected = jax.tree.map(
            lambda w, g: w - rate.reshape((2,) + (1,) * (g.ndim - 1)) * g, expected, grads
        )


@pytest.mark.parametrize("dispatch", ["masked", "switch"])
def test_no_step_leaves_every_bit(dispatch):
    views, fast = views_of(jax.random.key(0)), fast_of("mlp", jax.random.key(1))
    fast["w1"] = fast["w1"].at[0, 0, 0].set(-0.0)
    got = jax.jit(
        lambda f, k: adapt(
            f,
            views,
            k,
            loss=loss_of("mlp", True),
            rule=SGD(0.1),
            max_steps=4,
            dispatch=dispatch,
        )  # fmt: skip
    )(fast, jnp.asarray(0))
    for name in fast:
        assert np.asarray(got[name]).tobytes() == np.asarray(fast[name]).tobytes()


def test_one_thing_is_descended_and_a_zero_gradient_has_a_finite_derivative():
    views, fast = views_of(jax.random.key(0)), fast_of("linear", jax.random.key(1))
    loss = loss_of("linear", True)
    for things in ({}, {"loss": loss, "gradient": jax.grad(loss)}):
        with pytest.raises(InputError, match="either loss= or gradient="):
            adapt(fast, views, jnp.asarray(1), rule=SGD(1.0), max_steps=1, **things)
    padded = views._replace(mask=jnp.zeros_like(views.mask))

    def outer(fast):
        return jnp.sum(
            adapt(
                fast, padded, jnp.asarray(1), loss=loss, rule=SGD(1.0, clip=0.1), max_steps=1
            )["w"]
        )  # fmt: skip

    assert np.isfinite(jax.grad(outer)(fast)["w"]).all()


def test_padding_and_other_heads_do_not_matter():
    views, fast = views_of(jax.random.key(0)), fast_of("linear", jax.random.key(1))
    step = lambda v: adapt(  # noqa: E731
        fast,
        v,
        jnp.asarray(2),
        loss=loss_of("linear", True),
        rule=SGD(0.1),
        max_steps=2,
    )
    one = step(views)
    padded = step(views._replace(k=views.k.at[:, -1].set(1e3), v=views.v.at[:, -1].set(-7.0)))
    other = step(views._replace(k=views.k.at[1].add(1.0)))
    np.testing.assert_array_equal(one["w"], padded["w"])
    np.testing.assert_array_equal(one["w"][0], other["w"][0])
    assert not np.array_equal(one["w"][1], other["w"][1])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.floats(0.01, 0.2), st.integers(0, 1000))
def test_k_steps_on_one_token_are_one_step_of_size_beta(steps, rate, seed):
    """Linear, no norm, one token: beta_K = (1 - (1 - eta |k|^2)^K) / |k|^2, without the bias."""
    key = jax.random.key(seed)
    k, v = jax.random.normal(key, (2, 5))
    w = jax.random.normal(jax.random.fold_in(key, 1), (5, 5))
    loss = lambda w, _: 0.5 * jnp.sum((k @ w - v) ** 2)  # noqa: E731
    got = adapt(w, None, jnp.asarray(steps), loss=loss, rule=SGD(rate / float(k @ k)), max_steps=8)
    beta = (1 - (1 - rate) ** steps) / float(k @ k)
    np.testing.assert_allclose(got, w - beta * jnp.outer(k, k @ w - v), rtol=2e-5, atol=2e-5)


def test_clip_bounds_the_step_and_decay_pulls_back():
    views, fast = views_of(jax.random.key(0)), fast_of("linear", jax.random.key(1))
    step = lambda **how: adapt(  # noqa: E731
        fast, views, jnp.asarray(1), loss=loss_of("linear", True), max_steps=1, **how
    )
    moved = step(rule=SGD(1.0, clip=jnp.asarray(0.01)))
    length = np.sqrt(sum(float(jnp.sum((moved[n] - fast[n]) ** 2)) for n in fast))
    assert length == pytest.approx(0.01, rel=1e-4)
    away = jax.tree.map(lambda w: w + 1.0, fast)
    pulled_back = step(rule=SGD(1.0, decay=jnp.asarray(0.5)), state=away)
    plain = step(rule=SGD(1.0))
    np.testing.assert_allclose(pulled_back["w"], plain["w"] + 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dispatch": "fast"}, "unknown dispatch 'fast'"),
        ({"steps": jnp.asarray(5)}, "steps is 5"),
        ({"steps": jnp.asarray(-1)}, "steps is -1"),
        ({"max_steps": -1}, "max_steps is -1"),
    ],
)
def test_bad_input_is_refused(change, message):
    how = {"steps": jnp.asarray(1), "rule": SGD(0.1), "max_steps": 4} | change
    with pytest.raises(InputError, match=message):
        adapt(jnp.ones(2), None, loss=lambda w, _: jnp.sum(w), **how)
