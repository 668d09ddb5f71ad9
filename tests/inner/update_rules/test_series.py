"""Every rule against its formula, written out in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.inner.update_rules import (
    SGD,
    AdamW,
    Gather,
    NewtonSchulz,
    NormalizedGradient,
    OnlineRMS,
    SumOfSquares,
)
from ponderttt.inner.update_rules.newton_schulz import orthogonalize

SHAPES = {"bias": (4,), "blocks": (2, 3, 5), "tall": (6, 4)}
STEPS = 7


def arrays(seed, scale=1.0, power=1):
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.normal(size=s)) ** power for name, s in SHAPES.items()}


START, STATISTICS = arrays(0), arrays(1, power=2)
GRADIENTS = [arrays(2 + i, scale=0.1 * 3.0 ** (i % 4)) for i in range(STEPS)]
"""Their scale varies 27-fold: a moving average that is off, or lacks its correction, shows."""


def norm(g):
    return math.sqrt(sum((x**2).sum() for x in g.values()))


def sgd(w, g, t, memory):
    clipped = min(1.0, 0.5 / norm(g))
    return {k: w[k] - 0.3 * clipped * g[k] - 0.05 * (w[k] - START[k]) for k in w}


def sgd_per_block(w, g, t, memory):
    rate = np.asarray([0.3, 0.7]).reshape(2, 1, 1)
    return {"blocks": w["blocks"] - rate * g["blocks"]}


def normalized(w, g, t, memory):
    return {k: w[k] - 0.3 * g[k] / (norm(g) + 0.2) for k in w}


def sum_of_squares(w, g, t, memory):
    return {k: w[k] - 0.3 * g[k] / (STATISTICS[k] + 0.1) for k in w}


def root_of_sum(w, g, t, memory):
    root = {k: np.sqrt(STATISTICS[k]) for k in w}
    back = {k: np.minimum(1.0, 0.9 * root[k]) * (START[k] - w[k]) for k in w}
    return {k: w[k] - 0.3 * g[k] / (root[k] + 0.1) + back[k] for k in w}


def online_rms(w, g, t, memory):
    for k in w:
        memory[k] = 0.8 * memory.get(k, 0.0) + 0.2 * g[k] ** 2
    root = {k: np.sqrt(memory[k] / (1 - 0.8**t)) for k in w}
    back = {k: np.minimum(1.0, 0.9 * root[k]) * (START[k] - w[k]) for k in w}
    return {k: w[k] - 0.3 * g[k] / (root[k] + 0.1) + back[k] for k in w}


def adamw(w, g, t, memory):
    for k in w:
        memory[k] = 0.95 * memory.get(k, 0.0) + 0.05 * g[k] ** 2
    root = {k: np.sqrt(memory[k] / (1 - 0.95**t)) for k in w}
    return {k: w[k] - 0.3 * 0.4 * w[k] - 0.3 * g[k] / (root[k] + 0.1) for k in w}


def muon_direction(g):
    if g.ndim == 3:
        return np.stack([muon_direction(one) for one in g])
    if g.ndim == 1:
        return g / np.sqrt((g**2).sum())
    x = g / np.sqrt((g**2).sum())
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
    return math.sqrt(max(1.0, g.shape[1] / g.shape[0])) * x


def newton_schulz(w, g, t, memory):
    return {k: w[k] - 0.3 * muon_direction(g[k]) for k in w}


def gather(w, g, t, memory):
    return w


ON_DEVICE = {name: jnp.asarray(x, jnp.float32) for name, x in STATISTICS.items()}
RULES = {
    "sgd": (SGD(0.3, clip=0.5, decay=0.05), sgd),
    "normalized": (NormalizedGradient(0.3, eps=0.2), normalized),
    "sum of squares": (SumOfSquares(0.3, ON_DEVICE, eps=0.1), sum_of_squares),
    "root of sum": (SumOfSquares(0.3, ON_DEVICE, eps=0.1, pull=0.9, root=True), root_of_sum),
    "online rms": (OnlineRMS(0.3, decay=0.8, eps=0.1, pull=0.9), online_rms),
    "adamw": (AdamW(0.3, beta2=0.95, eps=0.1, weight_decay=0.4), adamw),
    "newton-schulz": (NewtonSchulz(0.3), newton_schulz),
    "gather": (Gather(), gather),
}


def single(tree):
    return {name: jnp.asarray(x, jnp.float32) for name, x in tree.items()}


def assert_follows(rule, formula, start, gradients):
    step, memory = jax.jit(rule.step), {}
    expected, fast = start, single(start)
    state = rule.init(fast)
    for t, g in enumerate(gradients, 1):
        before, expected = expected, formula(expected, g, t, memory)
        fast, state = step(fast, single(g), state)
        for name in expected:
            at_most = 1e-5 * np.abs(expected[name]).max()
            np.testing.assert_allclose(fast[name], expected[name], rtol=1e-5, atol=at_most)
            if formula is not gather:
                assert np.abs(expected[name] - before[name]).max() > 1e-3
    return state


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_its_formula(name):
    assert_follows(*RULES[name], START, GRADIENTS)


def test_a_rate_may_be_one_a_head():
    of_blocks = [{"blocks": g["blocks"]} for g in GRADIENTS]
    rule = SGD(jnp.asarray([0.3, 0.7]))
    assert_follows(rule, sgd_per_block, {"blocks": START["blocks"]}, of_blocks)


def test_a_pull_is_bounded_in_some_elements_and_not_in_others():
    """So that the series above meet both."""
    coefficient = np.concatenate([0.9 * np.sqrt(x).ravel() for x in STATISTICS.values()])
    assert 0.1 < (coefficient > 1).mean() < 0.9


def test_gathering_sums_squares():
    state = assert_follows(Gather(), gather, START, GRADIENTS)
    for name in SHAPES:
        np.testing.assert_allclose(state[name], sum(g[name] ** 2 for g in GRADIENTS), rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 6, 4)])
def test_newton_schulz_steps_have_singular_values_near_one(shape):
    g = jax.random.normal(jax.random.key(0), shape)
    values = np.linalg.svd(orthogonalize(g, 5), compute_uv=False)
    assert (values > 0.65).all() and (values < 1.25).all()
    assert np.ptp(np.linalg.svd(g, compute_uv=False)) > 1.5
    u, _, v = np.linalg.svd(g, full_matrices=False)
    polar = u @ v
    overlap = np.sum(polar * orthogonalize(g, 5), axis=(-2, -1)) / min(shape[-2:])
    assert (overlap > 0.65).all()
