"""The controller of the multiplier, against the same arithmetic in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.errors import InputError
from ponderttt.training.pid import PIDConfig, pid_init, pid_step

BUDGET = 2.0


def run(config, costs, budget=BUDGET):
    """The multiplier after each of `costs`."""
    costs = jnp.asarray(costs, jnp.float32)
    step = lambda state, cost: pid_step(config, state, cost, budget)  # noqa: E731
    return np.asarray(jax.jit(lambda c: jax.lax.scan(step, pid_init(config), c)[1])(costs))


def by_hand(costs, kp, ki, kd, delay, smoothing, limit):
    integral = error_mean = 0.0
    smoothed, multipliers = [], []
    for t, cost in enumerate(costs):
        error = (cost - BUDGET) / BUDGET
        integral = max(0.0, integral + ki * error)
        error_mean = smoothing * error_mean + (1 - smoothing) * error
        relative = cost / BUDGET
        smoothed.append(smoothing * smoothed[-1] + (1 - smoothing) * relative if t else relative)
        rise = max(0.0, smoothed[-1] - smoothed[max(0, t - delay)])
        multipliers.append(min(limit, max(0.0, kp * error_mean + integral + kd * rise)))
    return multipliers


def schedule(high):
    """Fifty costs: below the budget, far above it, below it for long, above it again."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 50)
    return np.repeat([1.5, high, 1.2, 4.0], [8, 10, 22, 10]) + noise


@pytest.mark.parametrize(
    "gains, high",
    [((0.1, 0.01, 0.01), 12.0), ((0.1, 0.05, 2.0), 12.0), ((5.0, 4.0, 1.0), 60.0)],
)
def test_the_multiplier_equals_a_hand_computation(gains, high):
    costs = schedule(high)
    expected = by_hand(costs, *gains, delay=10, smoothing=0.95, limit=100.0)
    kp, ki, kd = gains
    np.testing.assert_allclose(run(PIDConfig(kp, ki, kd), costs), expected, rtol=2e-5, atol=2e-6)
    assert expected[5] == 0 and max(expected) > 0  # the schedule does saturate below
    assert (max(expected) == 100) == (high == 60.0)  # and, with the large gains, above


def test_a_short_delay_and_another_smoothing():
    config = PIDConfig(0.2, 0.02, 3.0, delay=1, smoothing=0.5)
    expected = by_hand(schedule(9.0), 0.2, 0.02, 3.0, delay=1, smoothing=0.5, limit=100.0)
    np.testing.assert_allclose(run(config, schedule(9.0)), expected, rtol=2e-5, atol=2e-6)


def test_a_constant_cost_gives_the_derivative_nothing_to_see():
    without = run(PIDConfig(kd=0.0), np.full(30, 12.0))
    np.testing.assert_array_equal(run(PIDConfig(kd=50.0), np.full(30, 12.0)), without)
    risen = np.concatenate([np.full(15, 12.0), np.full(15, 13.0)])
    assert (run(PIDConfig(kd=50.0), risen) > run(PIDConfig(kd=0.0), risen))[15:].all()


def test_a_long_slack_leaves_nothing_to_unwind():
    short, long = (
        run(PIDConfig(smoothing=0.0), np.concatenate([np.full(n, 1.0), np.full(5, 4.0)]))[-5:]
        for n in (2, 200)
    )
    np.testing.assert_allclose(short[0], long[0])
    assert short[0] > 0


def test_a_binding_budget_raises_the_multiplier_until_it_is_met():
    multipliers = run(PIDConfig(), np.full(40, 3.0))
    assert (np.diff(multipliers) > 0).all()
    assert run(PIDConfig(), np.full(40, 6.0))[-1] > multipliers[-1]


def test_the_velocity_form_integrates_twice():
    costs = schedule(12.0)
    assert np.abs(run(PIDConfig(), costs) - run(PIDConfig(form="velocity"), costs)).max() > 0.1
    # A constant violation: twice as long, twice the multiplier, or four times with two integrals.
    once, twice = (
        (m := run(PIDConfig(0.0, 1e-3, 0.0, form=form), np.full(200, 2 * BUDGET)))[199] / m[99]
        for form in ("positional", "velocity")
    )
    assert once == pytest.approx(2, rel=0.02) and twice == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"ki": -0.1}, "ki is -0.1"),
        ({"kp": float("nan")}, "kp is nan"),
        ({"delay": 0}, "delay is 0"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"limit": 0.0}, "limit is 0.0"),
        ({"form": "integral"}, "unknown form 'integral': expected positional or velocity"),
    ],
)
def test_settings_that_mean_nothing_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        PIDConfig(**bad)
