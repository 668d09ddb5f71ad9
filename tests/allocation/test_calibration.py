"""Policies at equal cost: calibration, cost curves, gaps; on the tree of a tiny model."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.made_task import made_task

from ponderttt.allocation import calibration, equal_cost
from ponderttt.allocation.calibration import (
    Outcome,
    best_first,
    bisect_to_budgets,
    calibrate,
    decision_budget,
    evaluate,
    uniform_outcomes,
)
from ponderttt.allocation.candidates import BANDIT, GATE, SIGNALS, decision_episode
from ponderttt.allocation.learned import choose_learning, learn, run_with_hard_budget
from ponderttt.allocation.stream import AllocationConfig
from ponderttt.allocation.uninformed import uninformed
from ponderttt.environment.tree import enumerate_allocations, path_nodes
from ponderttt.experiments.ppo_policy import PPOPolicyConfig, tables
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import EMAGate, GradientNormBasedPolicy, SchedulePolicy, UniformPolicy
from ponderttt.types import CHUNK_ACTIONS

COSTS, STEPS = (np.asarray(x) for x in (CHUNK_ACTIONS.costs, CHUNK_ACTIONS.steps))


@pytest.fixture(scope="module")
def task():
    config = AllocationConfig(streams=("python",), train_documents=6, test_documents=3)
    return next(config.tasks(TransformerLM.from_pretrained("tiny")))


def test_policies_are_evaluated_by_lookup_in_the_tree(task):
    part, taken = task.test, enumerate_allocations(task.units)
    nll = np.asarray(part.environment.tree.nll, float)[:, path_nodes(taken)].mean(axis=-1)
    for w in (0, 21, 63):
        outcome = evaluate(part, SchedulePolicy(jnp.eye(4)[taken[w]]))
        np.testing.assert_allclose(outcome.loss, nll[:, w], rtol=1e-5)
        np.testing.assert_allclose(outcome.cost, COSTS[taken[w]].mean())
        np.testing.assert_allclose(outcome.steps, STEPS[taken[w]].mean())
    always = evaluate(part, UniformPolicy("UPDATE_2"))
    np.testing.assert_allclose(always.cost, (3 * 5 + 1) / 4)


def test_splits_of_other_sizes_share_a_program_and_padding_changes_nothing(task):
    """A gate is carried over the stream: what stands behind it is not seen."""
    gate = EMAGate.calibrate(decision_episode(task.validation).inner_loss, target=0.4)
    assert len(task.training) != len(task.test) and len(task.test) % 8
    before = calibration._evaluate._cache_size()
    for part in (task.training, task.test):
        found = evaluate(part, gate)
        episode = part.environment.run(gate, key=jax.random.key(0))
        np.testing.assert_allclose(found.loss, np.asarray(episode.nll).mean(axis=-1), rtol=1e-6)
        np.testing.assert_array_equal(found.steps, np.asarray(episode.steps, float).mean(axis=-1))
    assert calibration._evaluate._cache_size() == before + 1


def test_what_one_action_does_is_looked_up(task):
    for name, found in uniform_outcomes(task.test).items():
        for x, y in zip(found, evaluate(task.test, UniformPolicy(name)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6)


def test_the_uninformed_cost_what_they_should(task):
    """The last unit is never paid for."""
    budgets = (1.5, 2.0, 3.125, 5.0)
    assert decision_budget(task, 3.125) == pytest.approx((4 * 3.125 - 1) / 3)
    for each in uninformed(task, budgets):
        for outcome in (each.test, each.validation):
            np.testing.assert_allclose(outcome.cost, each.budget, rtol=1e-5)
    chosen = equal_cost.curves(uninformed(task, budgets))["control"]
    assert len(chosen.cost) == len(budgets)


def test_nothing_uninformed_has_lower_validation_loss_than_the_best_schedule(task):
    """Any mixture of allocations that is the same for every document is a point of the program."""
    part, rng = task.validation, np.random.default_rng(0)
    taken = enumerate_allocations(task.units)
    nll = np.asarray(part.environment.tree.nll, float)[:, path_nodes(taken)].mean(axis=(0, 2))
    cost = COSTS[taken].mean(axis=1)
    for budget in (2.0, 5.0):
        found = [f for f in uninformed(task, (budget,)) if f.budget == budget]
        best = next(f for f in found if f.candidate == "best schedule").validation.loss.mean()
        assert all(best <= other.validation.loss.mean() + 1e-6 for other in found)
        low, high = np.flatnonzero(cost <= budget), np.flatnonzero(cost > budget)
        for _ in range(200):
            a, b = rng.choice(low), rng.choice(high)
            share = (budget - cost[a]) / (cost[b] - cost[a])
            assert best <= (1 - share) * nll[a] + share * nll[b] + 1e-6


def test_nothing_is_chosen_by_test_documents(task, monkeypatch, tmp_path):
    """Other test documents: the same candidates, at the same validation cost and loss."""
    worse = jax.tree.map(lambda x: x[::-1] + 1.0, task.test.environment)
    other = replace(task, test=replace(task.test, environment=worse))
    for family in (GATE, BANDIT):
        one, two = (best_first(s, calibrate(s, family, (1.5, 2.0))) for s in (task, other))
        for a, b in zip(one, two, strict=True):
            assert a.candidate == b.candidate
            np.testing.assert_array_equal(a.validation.loss, b.validation.loss)
            assert not np.array_equal(a.test.loss, b.test.loss)
    config = PPOPolicyConfig(streams=("python",))
    one = learn(task, 2.0, config.learning)
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path))  # learned anew, not read back
    two = learn(other, 2.0, config.learning)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_gradient_that_is_looked_at_is_paid_for(task):
    """Whether it is used or not; the last unit's is not looked at."""
    never = GradientNormBasedPolicy(jnp.asarray([1e9, 2e9, 3e9]))
    np.testing.assert_allclose(evaluate(task.test, never).cost, (3 * 3 + 1) / 4)
    always = GradientNormBasedPolicy(jnp.asarray([-1.0, 1e9, 2e9]))
    np.testing.assert_allclose(evaluate(task.test, always).cost, (3 * 3 + 1) / 4)


def test_budgets_are_met_by_bisection():
    budgets = np.array([[1.5, 2.0], [3.0, 9.0]])
    levels = bisect_to_budgets(lambda x: 1 + 11 * x**3, budgets)
    np.testing.assert_allclose(1 + 11 * levels**3, budgets, rtol=2e-3)
    steps = bisect_to_budgets(lambda x: 1 + np.floor(4 * x), np.array([2.2]))  # jumps: the nearest
    assert 1 + np.floor(4 * steps[0]) == 2


@pytest.mark.parametrize("family", [*SIGNALS, BANDIT], ids=lambda f: f.name)
def test_every_method_is_calibrated_on_validation_documents(task, family):
    budgets = (1.5, 2.0)
    found = best_first(task, calibrate(task, family, budgets))
    for budget in budgets:
        best = next(each for each in found if each.budget == budget)
        # Nine units with a decision: one more update of a gate moves the mean cost by up to 0.92.
        if family.name != "gradient norm":  # it cannot cost so little
            assert best.validation.cost.mean() == pytest.approx(budget, abs=0.46)
        assert best.test.loss.shape == (3,)
    rows = equal_cost.points(found, task)
    assert rows.groupby("budget")["chosen"].sum().eq(1).all()


@pytest.fixture(scope="module")
def many():
    return made_task(200)


@pytest.mark.parametrize("family", (*SIGNALS, BANDIT), ids=lambda family: family.name)
def test_budgets_are_met_to_2_percent_on_many_documents(many, family):
    """Whatever a method can spend: a gradient that is looked at costs 2 more on every decision."""
    budgets = (2.0, 3.125, 5.0)
    found = best_first(many, calibrate(many, family, budgets))
    least = 1 + 2 * 3 / 4 if family.name == "gradient norm" else 1.0
    met = [budget for budget in budgets if budget > least]
    assert len(met) >= 2
    for budget in met:
        best = next(each for each in found if each.budget == budget)
        assert best.validation.cost.mean() == pytest.approx(budget, rel=0.02)
        assert best.test.cost.mean() == pytest.approx(budget, rel=0.25)  # 3 standard errors


def test_returns_are_gains_when_skip_follows(task):
    environment = task.test.environment
    found, nll = environment.node_gains("rest"), np.asarray(environment.tree.nll, float)
    for before, a in itertools.product([(), (1,), (3, 2)], (1, 3)):
        node = 0
        for action in before:
            node = 4 * node + 1 + action
        paths = [
            path_nodes(np.array([*before, action, *[0] * (3 - len(before))])) for action in (0, a)
        ]
        loss = [nll[:, path].sum(axis=1) for path in paths]
        np.testing.assert_allclose(found[:, node, a], loss[0] - loss[1], atol=1e-6)


def test_the_gap_is_0_for_the_control_and_1_for_the_oracle(task):
    budgets = (2.0, 3.125)
    curves = equal_cost.curves(uninformed(task))
    found = equal_cost.interpolate(curves, budgets)
    table = equal_cost.documents(task, found | {"twin": found["control"]}, curves["control"])
    gaps = equal_cost.gaps(table, seed=0).set_index(["method", "budget"])["share"]
    for budget in budgets:
        assert gaps["twin", budget] == 0 and gaps["oracle", budget] == 1


def test_a_cost_curve_is_read_between_its_points():
    curve = equal_cost.Curve.of(
        [
            Outcome(np.array([2.0, 3.0]), np.array([1.0, 2.0]), np.zeros(2)),
            Outcome(np.zeros(2), np.full(2, 3.5), np.ones(2)),
        ]
    )
    np.testing.assert_allclose(curve.interpolate(2.5).loss, [1.0, 1.5])
    np.testing.assert_allclose(curve.interpolate(2.5).cost.mean(), 2.5)
    assert np.isnan(curve.interpolate(4.0).loss).all()


def test_learned_policies_are_calibrated_and_never_overdraw(task):
    config = PPOPolicyConfig(streams=("python",))
    learned = learn(task, 2.0, config.learning)
    here = learned.validation.cost[:, tables.HERE].mean(axis=-1)
    np.testing.assert_allclose(here, 2.0, rtol=0.05)
    assert (np.diff(learned.validation.cost.mean(axis=-1), axis=1) > 0).all()
    for account in (1.2, 2.0, 6.0):
        episode = run_with_hard_budget(learned._replace(budget=account), task.test)
        spent = np.cumsum(np.asarray(episode.cost).reshape(2, -1), axis=1)
        assert (spent <= account * np.arange(1, spent.shape[1] + 1) + 1e-3).all()


def test_rate_and_jitter_are_chosen_on_halves_of_the_training_documents(task):
    config = PPOPolicyConfig(streams=("python",)).learning
    chosen, table = choose_learning(task, 2.0, config, rates=(3e-4, 3e-3), jitters=(1.0,))
    assert len(table) == 2 * 2 and table["loss"].nunique() == 4
    means = table.groupby("rate")["loss"].mean()
    assert chosen.rate == means.idxmin() and chosen.jitter == 1.0
    assert set(table[table["chosen"]]["rate"]) == {chosen.rate}
    half = task.training.select(np.array([0, 2, 4]))
    assert half.texts.paths == tuple(task.training.texts.paths[i] for i in (0, 2, 4))
    np.testing.assert_array_equal(
        half.environment.tree.nll, np.asarray(task.training.environment.tree.nll)[[0, 2, 4]]
    )


def test_the_same_seed_learns_the_same_and_only_once(task, monkeypatch, tmp_path):
    config = PPOPolicyConfig(streams=("python",))
    one = learn(task, 2.0, config.learning)
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path))
    learned, read_back = (learn(task, 2.0, config.learning) for _ in range(2))
    assert len(list((tmp_path / "policies").iterdir())) == 1
    for other in (learned, read_back):
        found = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        for a, b in found:
            np.testing.assert_array_equal(a, b)
    blind = learn(task, 2.0, config.learning, without=("text",))
    assert not np.allclose(one.history.entropy, blind.history.entropy)
