"""What holds of every rule in the descent, under both dispatches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.inner import adapt
from ponderttt.inner.descent import descend
from ponderttt.inner.update_rules import (
    SGD,
    AdamW,
    Gather,
    NewtonSchulz,
    NormalizedGradient,
    OnlineRMS,
    RuleState,
    SumOfSquares,
    UpdateRule,
)

KEY = jax.random.key(0)
FAST = {
    "w": jax.random.normal(KEY, (2, 3, 5)).at[0, 0, 0].set(-0.0),
    "b": jax.random.normal(jax.random.key(1), (5,)),
}
STATISTICS = jax.tree.map(lambda w: w**2 + 0.1, FAST)
RULES: dict[str, UpdateRule] = {
    "sgd": SGD(0.1),
    "sgd, clip and decay": SGD(0.1, clip=0.5, decay=0.1),
    "normalized": NormalizedGradient(0.1),
    "sum of squares": SumOfSquares(0.1, STATISTICS),
    "sum of squares, pull": SumOfSquares(0.1, STATISTICS, pull=0.2),
    "root of sum": SumOfSquares(0.1, STATISTICS, pull=0.2, root=True),
    "online rms": OnlineRMS(0.1),
    "online rms, pull": OnlineRMS(0.1, pull=0.2),
    "adamw": AdamW(0.1),
    "newton-schulz": NewtonSchulz(0.1),
    "gather": Gather(),
}
VIEWS = jax.random.normal(jax.random.key(2), (4, 3))
DISPATCHES = ("masked", "switch")
each_rule = pytest.mark.parametrize("name", RULES)
each_dispatch = pytest.mark.parametrize("dispatch", DISPATCHES)


def loss(fast, views):
    out = jnp.einsum("Ui,nio->nUo", views, fast["w"])
    return 0.5 * jnp.mean((jnp.tanh(out + fast["b"][None, None]) - 0.3) ** 2)


gradient = jax.grad(loss)


def go(rule, steps, *, max_steps=4, dispatch="masked", fast=FAST, views=VIEWS, **how):
    """One compiled descent whose number of steps is traced."""

    @jax.jit
    def run(rule, steps):
        return descend(
            fast, views, steps, rule=rule, max_steps=max_steps, gradient=gradient,
            dispatch=dispatch, **how,
        )  # fmt: skip

    return run(rule, jnp.asarray(steps))


def assert_same_bits(one, other):
    leaves, expected = jax.tree.leaves_with_path(one), jax.tree.leaves_with_path(other)
    assert [path for path, _ in leaves] == [path for path, _ in expected]
    for (path, x), (_, y) in zip(leaves, expected, strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), path


def assert_close(one, other, tolerance=1e-6):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@each_dispatch
@each_rule
def test_no_step_leaves_every_bit_of_weights_and_state(name, dispatch):
    rule = RULES[name]
    found = go(rule, 2)
    got = go(rule, 0, dispatch=dispatch, fast=FAST, state=found.state)
    assert_same_bits((got.fast, got.state, got.gradient_norm), (FAST, found.state, jnp.zeros(())))
    given = go(rule, 0, dispatch=dispatch, state=found.state, first=lambda: gradient(FAST, VIEWS))
    assert_same_bits(given, got)


@each_rule
def test_masked_is_switch(name):
    before = FAST
    for steps in (1, 3, 4):
        masked, switch = (go(RULES[name], steps, dispatch=dispatch) for dispatch in DISPATCHES)
        assert_close(masked, switch)
        assert masked.gradient_norm == pytest.approx(norm(gradient(FAST, VIEWS)), rel=1e-5)
        moved = sum(np.abs(masked.fast[k] - before[k]).max() for k in FAST)
        assert moved == 0 if name == "gather" else moved > 1e-3
        before = masked.fast


def norm(grads):
    return float(jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads))))


@each_dispatch
@each_rule
def test_three_steps_are_three_calls_with_the_state_carried(name, dispatch):
    rule = RULES[name]
    together, at, fresh = go(rule, 3, dispatch=dispatch), go(rule, 0), go(rule, 0)
    for _ in range(3):
        at = go(rule, 1, dispatch=dispatch, fast=at.fast, state=at.state)
        fresh = go(rule, 1, dispatch=dispatch, fast=fresh.fast)
    assert_close((together.fast, together.state), (at.fast, at.state))
    follows = jax.tree.leaves(rule.init(FAST)) and name != "gather"
    apart = max(np.abs(together.fast[k] - fresh.fast[k]).max() for k in FAST)
    assert apart > 1e-4 if follows else apart < 1e-6


@each_dispatch
@each_rule
def test_a_first_gradient_that_is_given_changes_no_number(name, dispatch):
    for steps in (1, 2, 4):
        plain = go(RULES[name], steps, dispatch=dispatch)
        given = go(RULES[name], steps, dispatch=dispatch, first=lambda: gradient(FAST, VIEWS))
        assert_close(given, plain)
    none = go(RULES[name], 0, max_steps=0, dispatch=dispatch, first=lambda: FAST)
    assert_same_bits(none.fast, FAST)


@each_dispatch
def test_the_first_gradient_is_asked_for_once_and_only_the_first(dispatch):
    asked = []

    def first():
        jax.debug.callback(lambda: asked.append(1))
        return jax.tree.map(jnp.ones_like, FAST)

    for steps, times in ((0, 0), (1, 1), (3, 1)):
        asked.clear()
        got = go(SGD(0.1), steps, dispatch=dispatch, first=first)
        jax.effects_barrier()
        assert len(asked) == (times if dispatch == "switch" else 1)
        expected = FAST
        for i in range(steps):
            slope = jax.tree.map(jnp.ones_like, FAST) if i == 0 else gradient(expected, VIEWS)
            expected = jax.tree.map(lambda w, g: w - 0.1 * g, expected, slope)
        assert_close(got.fast, expected)
        assert got.gradient_norm == pytest.approx(np.sqrt(35.0) if steps else 0.0, rel=1e-6)


@each_rule
def test_documents_are_kept_apart(name):
    rule = RULES[name]
    views = jnp.stack([VIEWS, VIEWS[::-1] + 1, VIEWS - 0.5])

    @jax.jit
    def read(views):
        return jax.vmap(
            lambda v, k: descend(FAST, v, k, rule=rule, max_steps=3, gradient=gradient)
        )(views, jnp.asarray([2, 3, 1]))

    one, other = read(views), read(views.at[1].add(7.0))
    apart = jax.tree.map(lambda x: x[np.asarray([0, 2])], (one, other))
    assert_same_bits(*apart)
    assert one.gradient_norm[1] != other.gradient_norm[1]


@each_rule
def test_a_zero_gradient_is_finite_and_so_is_its_derivative(name):
    @jax.jit
    def meta(fast):
        def outer(fast, rule):
            none = lambda fast, views: jax.tree.map(lambda w: 0.0 * w, fast)  # noqa: E731
            found = descend(fast, VIEWS, jnp.asarray(2), rule=rule, max_steps=3, gradient=none)
            return sum(jnp.sum(x) for x in jax.tree.leaves(found.fast)), found

        return jax.value_and_grad(outer, argnums=(0, 1), has_aux=True)(fast, RULES[name])

    (_, found), slopes = meta(FAST)
    for x in jax.tree.leaves((found, slopes)):
        assert np.isfinite(x).all()
    if name != "adamw":
        assert_close(found.fast, FAST)


@pytest.mark.parametrize("given", [False, True])
@each_rule
def test_training_through_a_rule_is_finite_differences(name, given):
    """The derivative of what is lost after two steps, along one direction of the start."""
    rule = RULES[name]

    @jax.jit
    def outer(x):
        fast = jax.tree.map(lambda w: w + x * jnp.cos(w), FAST)
        moved = adapt(
            fast, VIEWS, jnp.asarray(2), rule=rule, max_steps=3, gradient=gradient,
            first=(lambda: gradient(fast, VIEWS)) if given else None,
        )  # fmt: skip
        return sum(jnp.sum(jnp.sin(w)) for w in jax.tree.leaves(moved))

    slope, h = float(jax.grad(outer)(0.0)), 3e-3
    measured = float(outer(h) - outer(-h)) / (2 * h)
    assert slope == pytest.approx(measured, rel=0.03, abs=0.03)


PULLED = ["sgd, clip and decay", "sum of squares, pull", "root of sum", "online rms, pull"]


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("name", PULLED)
def test_a_pull_returns_to_the_start_and_never_passes_it(name, strong):
    rule = dataclasses.replace(RULES[name], rate=0.0)
    if strong and not isinstance(rule, SGD):
        rule = dataclasses.replace(rule, pull=1e6)
    state = rule.init(FAST)
    _, state = rule.step(FAST, gradient(FAST, VIEWS), state)  # online: from now on v is not 0
    start = {k: np.asarray(w) for k, w in FAST.items()}
    fast = jax.tree.map(lambda w: w + jnp.where(w > 0, 1.0, -1.0), FAST)
    zero = jax.tree.map(jnp.zeros_like, FAST)
    for _ in range(5):
        before = fast
        fast, state = rule.step(fast, zero, state)
        for k in FAST:
            away, was = np.asarray(fast[k]) - start[k], np.asarray(before[k]) - start[k]
            assert (away * np.sign(was) >= -1e-6).all(), "passed its start"
            assert (np.abs(away) <= np.abs(was) + 1e-6).all()
        assert strong or max(np.abs(before[k] - fast[k]).max() for k in FAST) > 1e-3
    if strong and not isinstance(rule, SGD):
        assert_close(fast, FAST)


def old_norm(grads):
    squares = sum(jnp.sum(g**2) for g in jax.tree.leaves(grads))
    return jnp.sqrt(jnp.maximum(squares, 1e-20))


def old_formula(fast, steps, rate, clip, decay, initial):
    """Gradient descent as `adapt` had it before it took a rule."""

    def step(fast):
        grads = gradient(fast, VIEWS)
        norm = old_norm(grads)
        if clip is not None:
            scale = jnp.minimum(1.0, clip / old_norm(grads))
            grads = jax.tree.map(lambda g: g * scale, grads)
        moved = jax.tree.map(lambda w, g: w - rate * g, fast, grads)
        if decay is not None:
            moved = jax.tree.map(lambda m, w, w0: m - decay * (w - w0), moved, fast, initial)
        return moved, norm

    def masked(fast, i):
        moved, norm = jax.checkpoint(step)(fast)
        kept = jax.tree.map(lambda new, old: jnp.where(i < steps, new, old), moved, fast)
        return kept, jnp.where(i < steps, norm, 0.0)

    fast, norms = jax.lax.scan(masked, fast, jnp.arange(4))
    return fast, norms[0]


@pytest.mark.parametrize("clip", [None, 0.02])
@pytest.mark.parametrize("decay", [None, 0.1])
def test_sgd_is_the_old_formula_to_the_bit(clip, decay):
    numbers = [None if x is None else jnp.asarray(x) for x in (0.7, clip, decay)]
    initial = jax.tree.map(lambda w: w + 0.3, FAST)
    old = jax.jit(lambda steps, *numbers: old_formula(FAST, steps, *numbers, initial))
    for steps in range(5):
        state: RuleState = () if decay is None else initial
        got = go(SGD(*numbers), steps, state=state)
        assert_same_bits((got.fast, got.gradient_norm), old(jnp.asarray(steps), *numbers))


def test_a_grid_of_rates_is_one_program():
    traces = []

    @jax.jit
    def run(rule):
        traces.append(1)
        return descend(FAST, VIEWS, jnp.asarray(2), rule=rule, max_steps=2, gradient=gradient).fast[
            "b"
        ]

    grid = [OnlineRMS(rate, decay, pull=0.1) for rate in (0.1, 0.2) for decay in (0.5, 0.9)]
    alone = [np.asarray(run(rule)) for rule in grid]
    assert len(traces) == 1
    assert len({x.tobytes() for x in alone}) == len(grid)
    together = jax.vmap(run)(jax.tree.map(lambda *x: jnp.asarray(x, jnp.float32), *grid))
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-5)
    SGDs = [SGD(0.1), SGD(0.1, clip=1.0), SGD(0.1, decay=1.0)]
    assert len({jax.tree.structure(rule) for rule in SGDs}) == 3


@each_rule
def test_a_rule_is_a_rule(name):
    assert isinstance(RULES[name], UpdateRule)
    assert all(np.ndim(x) <= 3 for x in jax.tree.leaves(RULES[name]))
