"""Every way of descending equals the plain loop: values, gradients, and what each refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponderttt.errors import InputError
from ponderttt.inner import (
    FAST_WEIGHTS,
    Norm,
    Views,
    learn,
    reconstruction_gradient,
    reconstruction_loss,
)
from ponderttt.inner import limit as limits
from ponderttt.inner.closed_form import (
    _halves_joined,
    _unit_lower_inverse,
    chunkwise,
    closed_form,
    effective_rate,
)
from ponderttt.inner.dual import dual
from ponderttt.inner.fast_weights import gelu_and_slope
from ponderttt.inner.mini_batch import Rates, begin, primal
from ponderttt.inner.objectives import layer_norm, weighted_gradient


def text(seed, length, width, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    q, k, v = (jnp.asarray(rng.normal(size=(length, width)) / width**0.5, dtype) for _ in range(3))
    return q, k, v


def weights(model, width, seed=1, dtype=jnp.float32, bias=True):
    fast = FAST_WEIGHTS[model].init(jax.random.key(seed), width, 4 * width)
    if not bias:
        fast = {"w": fast["w"]}
    return jax.tree.map(lambda x: (10 * x).astype(dtype), fast)


def a_norm(width, dtype=jnp.float32):
    rng = np.random.default_rng(9)
    return Norm(*(jnp.asarray(a + 0.1 * rng.normal(size=width), dtype) for a in (1, 0)))


def same(got, expected, tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, float), np.asarray(b, float)
        assert np.max(np.abs(a - b)) <= tolerance * (np.max(np.abs(b)) + 1e-30)


@pytest.fixture(params=[jnp.float32, jnp.float64], ids=["float32", "float64"])
def precision(request):
    """(dtype, tolerance): 1e-5 in float32, 1e-10 in float64."""
    if request.param is jnp.float32:
        yield jnp.float32, 1e-5
    else:
        with jax.enable_x64(True):
            yield jnp.float64, 1e-10


def plain(fast, q, k, v, rate, steps, *, norm=None, model="linear", order="adapt_first"):
    """The definition: one token at a time, `steps` gradient steps by autodiff."""

    def loss(fast, k, v):
        out = FAST_WEIGHTS[model].apply(fast, k[None])
        error = out - v[None] if norm is None else layer_norm(out, norm) - (v - k)[None]
        return 0.5 * jnp.sum(error**2)

    @jax.jit
    def step(fast, k, v, rate):
        return jax.tree.map(lambda w, g: w - rate * g, fast, jax.grad(loss)(fast, k, v))

    answers = []
    for t in range(q.shape[0]):
        found = fast
        for _ in range(int(steps[t])):
            fast = step(fast, k[t], v[t], rate[t])
        out = FAST_WEIGHTS[model].apply(fast if order == "adapt_first" else found, q[t][None])
        answers.append(out[0] if norm is None else (q[t][None] + layer_norm(out, norm))[0])
    return jnp.stack(answers), fast


@pytest.mark.parametrize("order", ["adapt_first", "predict_first"])
@pytest.mark.parametrize("bias", [True, False])
def test_closed_form_and_chunkwise_are_the_plain_loop(precision, order, bias):
    dtype, tolerance = precision
    q, k, v = text(0, 11, 4, dtype)
    fast, rng = weights("linear", 4, dtype=dtype, bias=bias), np.random.default_rng(2)
    rate = jnp.asarray(rng.uniform(0.05, 0.9, 11), dtype)
    steps = jnp.asarray([0, 1, 2, 4, 8, 3, 0, 8, 1, 5, 2])
    expected = plain(fast, q, k, v, rate, steps, order=order)
    for method in ("primal", "closed_form", "chunkwise", "auto"):
        got = learn(fast, q, k, v, rate=rate, steps=steps, order=order, method=method)
        same(got, expected, tolerance)
    for chunk in (1, 4):
        got = chunkwise(fast, q, k, v, rate, steps, max_steps=8, chunk=chunk, order=order)
        same(got, expected, tolerance)


@pytest.mark.parametrize(("model", "normed"), [("linear", True), ("mlp", True), ("mlp", False)])
@pytest.mark.parametrize("order", ["adapt_first", "predict_first"])
def test_primal_and_factored_are_the_plain_loop(precision, model, normed, order):
    dtype, tolerance = precision
    q, k, v = text(0, 5, 4, dtype)
    norm = a_norm(4, dtype) if normed else None
    fast, rate = weights(model, 4, dtype=dtype), jnp.full(5, 0.2, dtype)
    steps = jnp.asarray([1, 4, 0, 2, 1])
    kind = {"norm": norm, "model": model, "order": order}
    expected = plain(fast, q, k, v, rate, steps, **kind)
    for method in ("primal", "factored", "auto"):
        got = learn(fast, q, k, v, rate=rate, steps=steps, method=method, **kind)
        same(got, expected, tolerance)
        _, unmoved = learn(fast, q, k, v, rate=rate, steps=0, method=method, **kind)
        same(unmoved, fast, 0)


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 1000), model=st.sampled_from(["linear", "mlp"]), normed=st.booleans(),
    most=st.sampled_from([1, 3]), order=st.sampled_from(["adapt_first", "predict_first"]),
)  # fmt: skip
def test_derivatives_of_the_factored_form_are_those_of_the_loop(seed, model, normed, most, order):
    """In float64; what float32 loses on the way back is below."""
    with jax.enable_x64(True):
        q, k, v = (x.reshape(2, 7, 4) for x in text(seed, 14, 4, jnp.float64))
        rng = np.random.default_rng(seed)
        rate = jnp.asarray(rng.uniform(0.05, 0.3, (2, 7)))
        steps = jnp.asarray(rng.integers(0, most + 1, (2, 7)))
        fast = jax.tree.map(lambda w: jnp.stack([w, 1.1 * w]), weights(model, 4, dtype=jnp.float64))
        norm = jax.tree.map(lambda x: jnp.stack([x, x]), a_norm(4, jnp.float64) if normed else None)

        def value(method, fast, q, k, v, rate, norm):
            out, fast = learn(
                fast, q, k, v, rate=rate, steps=steps, max_steps=most, model=model, norm=norm,
                order=order, method=method,
            )  # fmt: skip
            return jnp.sum(out**2) + sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(fast))

        by = jax.jit(jax.grad(value, argnums=range(1, 7)), static_argnums=0)
        found = [by(m, fast, q, k, v, rate, norm) for m in ("factored", "primal")]
        same(*found, 1e-10)


@pytest.mark.parametrize(
    ("model", "normed", "bias"),
    [("linear", True, True), ("linear", False, False), ("mlp", True, True), ("mlp", False, True)],
)
def test_derivatives_of_the_dual_form_are_those_of_the_loop(model, normed, bias):
    """In float64, over heads, with respect to everything that there is."""
    with jax.enable_x64(True):
        q, k, v = (x.reshape(2, 12, 4) for x in text(3, 24, 4, jnp.float64))
        rng = np.random.default_rng(3)
        rate, position = (jnp.asarray(rng.uniform(0.05, 0.3, n)) for n in ((2, 12), 4))
        one = weights(model, 4, dtype=jnp.float64, bias=bias)
        fast = jax.tree.map(lambda w: jnp.stack([w, 1.1 * w]), one)
        norm = jax.tree.map(lambda x: jnp.stack([x, x]), a_norm(4, jnp.float64) if normed else None)

        def value(method, fast, q, k, v, rate, position, norm):
            out, fast = learn(
                fast, q, k, v, rate=rate, position=position, unit=4, model=model, norm=norm,
                method=method,
            )  # fmt: skip
            return jnp.sum(out**2) + sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(fast))

        by = jax.jit(jax.grad(value, argnums=range(1, 8)), static_argnums=0)
        found = [by(m, fast, q, k, v, rate, position, norm) for m in ("dual", "primal")]
        same(*found, 1e-10)


@pytest.mark.parametrize("method", ["factored", "dual"])
@pytest.mark.parametrize(("model", "normed"), [("linear", True), ("mlp", False), ("mlp", True)])
def test_going_back_over_a_long_text_in_float32(method, model, normed):
    """Weights that are taken back from what was written are a little off: the derivatives hold."""
    length, width = 512, 8
    text_of = {"steps": 3} if method == "factored" else {"steps": 1, "unit": 4}

    def derivatives(method, dtype):
        q, k, v = (x.astype(dtype) for x in text(0, length, width, jnp.float64))
        norm = a_norm(width, dtype) if normed else None
        fast = jax.tree.map(lambda w: 0.1 * w, weights(model, width, dtype=dtype))

        def value(fast, q, k, v):
            out, _ = learn(
                fast, q, k, v, rate=jnp.full(length, 0.5, dtype), model=model, norm=norm,
                method=method, **text_of,
            )  # fmt: skip
            return jnp.mean(jnp.sin(3 * out))

        # As users compile it: what the suite saves on optimising costs digits.
        as_is = {"xla_backend_optimization_level": 3}
        gradient = jax.jit(jax.grad(value, argnums=range(4)), compiler_options=as_is)
        return gradient(fast, q, k, v)

    with jax.enable_x64(True):
        same(derivatives(method, jnp.float32), derivatives("primal", jnp.float64), 5e-5)


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_a_token_without_a_step_leaves_no_trace(model):
    q, k, v = text(0, 4, 4)
    steps, rate = jnp.asarray([2, 0, 1, 3]), jnp.full(4, 0.2)
    kind = {"model": model, "norm": a_norm(4), "rate": rate, "steps": steps}
    out, last = learn(weights(model, 4), q, k, v, **kind)
    spoilt = k.at[1].set(jnp.nan), v.at[1].set(jnp.inf)
    same(learn(weights(model, 4), q, *spoilt, **kind), (out, last), 0)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 1000), length=st.sampled_from([7, 40]), rate=st.floats(1e-4, 0.95),
    most=st.sampled_from([1, 8]),
)  # fmt: skip
def test_any_rate_and_any_steps(seed, length, rate, most):
    q, k, v = text(seed, length, 6)
    steps = jnp.asarray(np.random.default_rng(seed).integers(0, most + 1, length))
    k = k / jnp.linalg.norm(k, axis=-1, keepdims=True)  # with the bias, stable below rate 1
    arguments = weights("linear", 6), q, k, v, jnp.full(length, rate), steps
    expected = closed_form(*arguments, max_steps=most)
    same(chunkwise(*arguments, max_steps=most), expected, 1e-5)
    same(learn(*arguments[:4], rate=arguments[4], steps=steps, method="primal"), expected, 1e-5)


def test_effective_rate_is_the_geometric_sum_without_cancellation():
    square, rate = jnp.asarray([1e-9, 1e-3, 0.5, 1.0, 3.9]), jnp.full(5, 0.5)
    for steps in range(17):
        got = effective_rate(rate, square, jnp.full(5, steps), 16)
        x = np.asarray(square, float)
        expected = sum(0.5 * (1 - 0.5 * x) ** i for i in range(steps)) + 0 * x
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=0)


def test_the_chunkwise_form_at_length_2048():
    q, k, v = text(3, 2048, 16)
    rng = np.random.default_rng(4)
    steps = jnp.asarray(rng.choice([1, 2, 4, 8], 2048))
    rate = jnp.asarray(rng.uniform(0.1, 0.9, 2048), jnp.float32)
    fast = weights("linear", 16)
    read = jax.jit(lambda q, k, v: chunkwise(fast, q, k, v, rate, steps, max_steps=8))
    same(read(q, k, v), closed_form(fast, q, k, v, rate, steps, max_steps=8), 1e-5)

    # Causal: what comes later does not reach an earlier answer, to the last bit.
    out, _ = read(q, k, v)
    for t in (0, 1, 15, 16, 17, 1000, 2047):
        moved, _ = read(q, k.at[t].add(0.5), v.at[t].add(-0.3))
        assert np.asarray(moved[:t]).tobytes() == np.asarray(out[:t]).tobytes()
        assert not np.array_equal(moved[t:], out[t:])


@pytest.mark.parametrize(("model", "normed"), [(m, n) for m in FAST_WEIGHTS for n in (0, 1)])
def test_dual_is_primal(precision, model, normed):
    dtype, tolerance = precision
    q, k, v = text(5, 12, 6, dtype)
    fast, norm = weights(model, 6, dtype=dtype), a_norm(6, dtype) if normed else None
    rng = np.random.default_rng(6)
    rates = Rates(
        jnp.asarray(rng.uniform(0, 0.4, 4), dtype), jnp.asarray(rng.uniform(size=12), dtype)
    )
    kind = {"model": model, "norm": norm}
    out, last = dual(fast, q, k, v, rates, **kind)
    expected, reading = primal(begin(fast), q, k, v, rates, **kind)
    same((out, last), (expected, reading.fast), tolerance)
    got = learn(fast, q, k, v, rate=rates.token, unit=4, position=rates.position, **kind)
    same(got, (out, last), tolerance)

    # Stopped within a mini-batch and taken up again: the same.
    first, middle = primal(
        begin(fast), q[:6], k[:6], v[:6], rates._replace(token=rates.token[:6]), **kind
    )
    rest, end = primal(middle, q[6:], k[6:], v[6:], rates._replace(token=rates.token[6:]), **kind)
    same((jnp.concatenate([first, rest]), end), (expected, reading), tolerance)

    # And its derivatives with respect to everything slow.
    def total(form):
        def value(fast, q, k, v, rates, gamma):
            inner = None if norm is None else norm._replace(gamma=gamma)
            if form is dual:
                out, fast = dual(fast, q, k, v, rates, model=model, norm=inner)
            else:
                out, reading = primal(begin(fast), q, k, v, rates, model=model, norm=inner)
                fast = reading.fast
            return jnp.sum(out**2) + sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(fast))

        gamma = jnp.ones(6, dtype)
        return jax.jit(jax.grad(value, argnums=range(6)))(fast, q, k, v, rates, gamma)

    same(total(dual), total(primal), 10 * tolerance)


def test_dual_is_causal():
    q, k, v = text(5, 12, 6)
    rates = Rates(jnp.full(4, 0.3), jnp.ones(12))
    read = jax.jit(lambda q, k, v: dual(
        weights("mlp", 6), q, k, v, rates, model="mlp", norm=a_norm(6)
    )[0])  # fmt: skip
    out = read(q, k, v)
    for t in range(12):
        moved = read(q.at[t].add(1.0), k.at[t].add(0.5), v.at[t].add(-0.3))
        assert np.asarray(moved[:t]).tobytes() == np.asarray(out[:t]).tobytes()
        assert not np.array_equal(moved[t], out[t])


@pytest.mark.parametrize("method", ["closed_form", "chunkwise"])
def test_derivatives_of_the_closed_forms_are_those_of_the_loop(method):
    q, k, v = text(7, 9, 4)
    steps, fast = jnp.asarray([1, 2, 4, 8, 0, 1, 3, 2, 1]), weights("linear", 4)

    def value(method, fast, q, k, v, rate):
        out, fast = learn(fast, q, k, v, rate=rate, steps=steps, max_steps=8, method=method)
        return jnp.sum(out**2) + jnp.sum(jnp.sin(fast["w"]))

    grads = [
        jax.jit(jax.grad(value, argnums=range(1, 6)), static_argnums=0)(
            m, fast, q, k, v, jnp.full(9, 0.3)
        )
        for m in (method, "primal")
    ]
    same(*grads, 1e-4)


@pytest.mark.parametrize("size", [1, 5, 8, 16, 32])
def test_the_inverse_and_its_derivatives_are_those_of_the_substitution(precision, size):
    dtype, tolerance = precision
    rng = np.random.default_rng(size)
    lower, moved, cotangents = (
        jnp.asarray(0.3 * rng.normal(size=(3, size, size)), dtype) for _ in range(3)
    )

    def through(inverse):
        return lambda lower: inverse(jnp.tril(lower, -1))

    found = []
    for inverse in (_unit_lower_inverse, _halves_joined):
        value, tangent = jax.jvp(through(inverse), (lower,), (moved,))
        (cotangent,) = jax.vjp(through(inverse), lower)[1](cotangents)
        found.append((value, tangent, cotangent))
    (value, tangent, cotangent), substituted = found
    same((value, tangent), substituted[:2], tolerance)
    np.testing.assert_allclose(cotangent, substituted[2], atol=tolerance * 100)  # 0 for size 1
    eye = jnp.broadcast_to(jnp.eye(size, dtype=dtype)[None], lower.shape)
    same(value @ (eye + jnp.tril(lower, -1)), eye, 10 * tolerance)
    if dtype == jnp.float64:
        step = 1e-5
        near = [through(_unit_lower_inverse)(lower + way * step * moved) for way in (1, -1)]
        np.testing.assert_allclose(tangent, (near[0] - near[1]) / (2 * step), atol=1e-6)


@pytest.mark.parametrize("model", FAST_WEIGHTS)
@pytest.mark.parametrize("normed", [True, False])
def test_gradients_by_hand_are_autodiff(precision, model, normed):
    dtype, tolerance = precision
    _, k, v = text(8, 5, 6, dtype)
    fast, norm = weights(model, 6, dtype=dtype), a_norm(6, dtype) if normed else None
    weight = jnp.asarray([0.1, 0.0, 2.0, 0.5, 1.0], dtype)

    def loss(fast):
        out = FAST_WEIGHTS[model].apply(fast, k)
        error = out - v if norm is None else layer_norm(out, norm) - (v - k)
        return jnp.sum(0.5 * jnp.sum(error**2, axis=-1) * weight)

    got = weighted_gradient(fast, k, v, weight, model=model, norm=norm)
    same(got, jax.grad(loss)(fast), tolerance)
    x = jnp.linspace(-4, 4, 50, dtype=dtype)
    slope = jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=True)))(x)
    same(gelu_and_slope(x), (jax.nn.gelu(x, approximate=True), slope), tolerance)


def test_many_steps_reach_the_limit_at_the_rate_of_theory(precision):
    dtype, tolerance = precision
    _, k, v = text(10, 40, 4, dtype)
    fast = weights("linear", 4, dtype=dtype)
    mask = jnp.arange(40) < 33
    there = limits.limit(fast, k, v, mask=mask)
    weight = mask.astype(dtype) / 33
    spectrum = limits.curvature(k, mask)[0]
    rate = 1 / spectrum[-1]

    def step(fast, _):
        grads = weighted_gradient(fast, k, v, weight, model="linear", norm=None)
        moved = jax.tree.map(lambda w, g: w - rate * g, fast, grads)
        gap = sum(jnp.sum((moved[n] - there[n]) ** 2) for n in moved)
        return moved, jnp.sqrt(gap)

    far, gaps = jax.lax.scan(step, fast, None, length=400)
    same(far, there, tolerance)
    if dtype == jnp.float64:
        slowest = 1 - rate * spectrum[0]
        late = np.asarray(gaps)[np.asarray(gaps) > 1e-11][-10:]
        np.testing.assert_allclose((late[-1] / late[0]) ** (1 / 9), slowest, rtol=1e-3)
    solved = limits.conjugate_gradient(fast, k, v, mask=mask, max_steps=20, tolerance=1e-12)
    same(solved.fast, there, 10 * tolerance)
    assert 1 <= int(solved.iterations) <= 20


def test_a_conjugate_gradient_that_is_near_enough_stops_and_a_harder_unit_takes_longer():
    rng = np.random.default_rng(0)
    easy = jnp.asarray(np.linalg.qr(rng.normal(size=(64, 8)))[0], jnp.float32)
    hard = easy * jnp.geomspace(1.0, 0.03, 8)[None]
    v, fast = jnp.asarray(rng.normal(size=(64, 8)), jnp.float32), {"w": jnp.zeros((8, 8))}
    taken = [
        int(limits.conjugate_gradient(fast, k, v, max_steps=30, tolerance=1e-4).iterations)
        for k in (easy, hard)
    ]
    assert taken[0] <= 2 < taken[1] <= 30


def test_a_ridge_is_the_fixed_point_of_decaying_steps():
    _, k, v = text(10, 20, 4)
    fast, rate, decay = weights("linear", 4), 0.5, 0.05
    there = limits.limit(fast, k, v, ridge=decay / rate)
    here = fast
    for _ in range(300):
        grads = weighted_gradient(here, k, v, jnp.full(20, 1 / 20), model="linear", norm=None)
        here = jax.tree.map(lambda w, g, w0: w - rate * g - decay * (w - w0), here, grads, fast)
    same(here, there, 1e-5)


@pytest.mark.parametrize("method", ["closed_form", "chunkwise", "primal", "dual", "limit"])
def test_heads_and_documents_are_read_apart(method):
    q, k, v = (jnp.stack([x, x[::-1]])[None] for x in text(13, 12, 4))  # [1, 2, T, d]
    fast = jax.tree.map(lambda w: jnp.stack([w, 2 * w])[None], weights("linear", 4))
    rate, steps = jnp.full((1, 2, 12), 0.2), jnp.asarray([[[1] * 12, [2] * 12]])
    kind: dict = {"method": method}
    if method in ("dual", "limit"):
        order = "adapt_first" if method == "dual" else "predict_first"
        steps, kind = steps[..., ::4].at[0, 1].set(1), kind | {"unit": 4, "order": order}
    got = learn(fast, q, k, v, rate=rate, steps=steps, **kind)
    for h in range(2):
        head = jax.tree.map(lambda w, h=h: w[0, h], fast)
        one = learn(head, q[0, h], k[0, h], v[0, h], rate=rate[0, h], steps=steps[0, h], **kind)
        same(jax.tree.map(lambda x, h=h: x[0, h], got), one, 1e-5)


def test_bfloat16_is_learned_in_float32():
    q, k, v = text(14, 64, 8, jnp.bfloat16)
    fast, rate = weights("linear", 8), jnp.full(64, 0.3)
    out, last = learn(fast, q, k, v, rate=rate, steps=4)
    assert out.dtype == jnp.bfloat16 and last["w"].dtype == jnp.float32
    wide = [x.astype(jnp.float32) for x in (q, k, v)]
    expected = learn(fast, *wide, rate=rate, steps=4)
    same(last, expected[1], 1e-6)
    same(out.astype(jnp.float32), expected[0], 1e-2)


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_rates_may_be_narrower_than_what_is_learned(model):
    q, k, v = text(14, 8, 4, jnp.bfloat16)

    def value(method, rate, k):
        out, _ = learn(weights(model, 4), q, k, v, rate=rate, unit=4, model=model, method=method)
        return jnp.sum(out.astype(jnp.float32) ** 2)

    rate = jnp.full(8, 0.3, jnp.bfloat16)
    found = [jax.grad(value, argnums=(1, 2))(m, rate, k) for m in ("dual", "primal")]
    same(*jax.tree.map(lambda x: x.astype(jnp.float32), found), 1e-2)


def test_the_dual_form_needs_no_bias():
    q, k, v = text(15, 8, 4)
    fast = weights("linear", 4, bias=False)
    arguments = {"rate": jnp.full(8, 0.5), "unit": 4}
    dual_form, loop = (learn(fast, q, k, v, method=m, **arguments) for m in ("dual", "primal"))
    same(dual_form, loop, 1e-5)


def test_solvers_are_differentiable_where_nothing_is_left_to_do():
    _, k, v = text(16, 12, 4)
    k = k.at[:, 3].set(0)  # a direction without any data, and below a unit that is all padding

    def value(k, v, mask):
        fast = weights("linear", 4)
        there = limits.limit(fast, k, v, ridge=0.1, mask=mask)
        near = limits.conjugate_gradient(fast, k, v, ridge=0.1, mask=mask, max_steps=12)
        return [jnp.sum(jnp.sin(f["w"])) for f in (there, near.fast)]

    for mask in (jnp.arange(12) < 9, jnp.zeros(12, bool)):
        exact, found = jax.jacrev(value)(k, v, mask)
        assert np.isfinite(found).all()
        same(found, exact, 1e-2)


@pytest.mark.parametrize(("model", "norm"), [(m, n) for m in FAST_WEIGHTS for n in (True, False)])
def test_the_layers_gradient_is_that_of_its_loss(model, norm):
    q, k, v = (jnp.stack(x) for x in zip(text(17, 6, 4), text(18, 6, 4), strict=True))
    fast = jax.vmap(lambda key: FAST_WEIGHTS[model].init(key, 4, 8))(
        jax.random.split(jax.random.key(0), 2)
    )
    gamma, beta = (jnp.stack([x, x + 0.1]) for x in a_norm(4))
    views = Views(q, k.at[:, -1].set(jnp.nan), v, gamma, beta, jnp.arange(6) < 5)
    finite = views._replace(k=k)
    expected = jax.grad(lambda f: reconstruction_loss(f, finite, model=model, norm=norm))(fast)
    same(reconstruction_gradient(fast, views, model=model, norm=norm), expected, 1e-5)


def test_units_of_several_tokens_predict_first():
    q, k, v = text(11, 12, 4)
    fast, rate = weights("linear", 4), jnp.full(12, 0.3)
    out, last = learn(fast, q, k, v, rate=rate, steps=2, unit=4, order="predict_first")
    same(out[:4], FAST_WEIGHTS["linear"].apply(fast, q[:4]), 1e-6)
    moved = learn(fast, q[:4], k[:4], v[:4], rate=rate[:4], steps=2, unit=4, order="predict_first")[
        1
    ]
    same(out[4:8], FAST_WEIGHTS["linear"].apply(moved, q[4:8]), 1e-6)
    far = learn(fast, q, k, v, rate=rate, steps=400, unit=4, order="predict_first", method="limit")
    near = learn(
        fast, q, k, v, rate=rate, steps=50, unit=4, order="predict_first",
        method="conjugate_gradient",
    )  # fmt: skip
    same(near, far, 1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "steps is -1: expected 0 or more"),
        ({"steps": 5, "max_steps": 4}, "steps is 5: expected 0 to max_steps = 4"),
        ({"unit": 5}, "5 tokens does not divide a text of 12"),
        ({"method": "closed_form", "model": "mlp"}, "not mlp fast weights.*use primal"),
        ({"method": "chunkwise", "norm": a_norm(4)}, "with the norm: use primal"),
        ({"method": "closed_form", "unit": 4}, "units of one token, not 4: use dual"),
        ({"method": "dual", "unit": 4, "steps": 2}, "dual is one step.*2 steps.*use primal"),
        ({"method": "limit", "unit": 4}, "later ones: use predict_first"),
        ({"unit": 4, "steps": 2}, "use predict_first"),
        ({"method": "newton"}, "unknown method 'newton': expected auto, primal"),
        ({"model": "cubic"}, "unknown fast weights 'cubic'"),
        ({"rate": jnp.full(12, 9.0)}, "rate of 9 makes the iteration diverge: expected at most"),
        ({"rate": jnp.ones(3)}, r"rate has shape \(3,\): expected one a token"),
        ({"rate": jnp.full(12, -0.1)}, "rate of -0.1 climbs"),
        ({"rate": jnp.full(12, 9.0), "unit": 4}, "makes the iteration diverge"),
        ({"position": jnp.ones(3), "unit": 4}, r"position has shape \(3,\): expected \(4,\)"),
        ({"position": jnp.ones(1)}, "position has shape"),
        ({"fast": {"w1": jnp.ones((4, 4))}}, "fast weights w1 are not linear: expected w or b, w"),
        ({"v": jnp.ones((12, 5))}, "differ: expected"),
    ],
)
def test_what_cannot_be_done_says_what_can(change, message):
    q, k, v = text(12, 12, 4)
    model = change.get("model", "linear")
    fast = weights(model if model in FAST_WEIGHTS else "linear", 4)
    arguments = {"fast": fast, "q": q, "k": k, "v": v, "rate": jnp.full(12, 0.1)} | change
    with pytest.raises(InputError, match=message):
        learn(**arguments)
