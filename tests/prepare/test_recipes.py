"""Recipes: what reads for each of them, what they are called, and what they cost as counted."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.products import multiplied

from ponderttt.environment.reading import score, score_with_slope
from ponderttt.errors import InputError
from ponderttt.evaluation.flops import (
    AdapterFlops,
    adapter_flops,
    adapter_step_flops,
    again_flops,
    forward_flops,
    head_flops,
    orthogonalize_flops,
    suffix_flops,
)
from ponderttt.inner.update_rules import RULES, NewtonSchulz, NormalizedGradient
from ponderttt.models.adapters.protocol import Unit
from ponderttt.models.attention import rotary_angles
from ponderttt.models.decoder.decoder import Context
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.prepare.recipes import ALPHA, ITERATIONS, LOW_RANK, Recipe

LAST = Recipe("normalized", 0.1, 0, 64)
BLOCK = Recipe("normalized", 0.1, 1, 64)
LOW = Recipe("normalized", 0.1, 2, 64, rank=4)
KINDS = {"last state": LAST, "outputs": BLOCK, "low rank": LOW, "low last": replace(LAST, rank=4)}


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


# --- what reads


@pytest.mark.parametrize(
    ("recipe", "targets", "alpha"),
    [
        (LAST, ("mlp_out",), None),
        (BLOCK, ("mlp_out",), None),
        (LOW, LOW_RANK, ALPHA),
        (replace(LAST, rank=4), ("mlp_out",), None),
    ],
    ids=list(KINDS),
)
def test_the_adapter_of_each_kind(recipe, targets, alpha):
    adapter = recipe.adapter()
    assert (adapter.suffix_blocks, adapter.rank) == (recipe.suffix_blocks, recipe.rank)
    assert adapter.targets == recipe.targets == targets and adapter.alpha == alpha
    assert isinstance(adapter.rule, NormalizedGradient)
    assert float(adapter.rule.rate) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_fast_weights_are_where_the_recipe_says(lm, kind):
    recipe, config = KINDS[kind], lm.config
    shapes = jax.tree.map(jnp.shape, recipe.adapter().init(lm))
    if recipe.suffix_blocks:
        assert set(shapes) == set(recipe.targets)
        assert all(
            leaf[0] == recipe.suffix_blocks for each in shapes.values() for leaf in each.values()
        )
        assert shapes["mlp_out"] == (
            {"a": (2, config.hidden, 4), "b": (2, 4, config.width)}
            if recipe.rank
            else {"w": (1, config.hidden, config.width)}
        )
    else:
        assert sorted(shapes) == (["a", "b"] if recipe.rank else ["w"])


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_by_its_name(lm, rule):
    recipe = replace(BLOCK, rule=rule, rate=0.02)
    assert recipe.gathers == (rule in ("rms_sum", "rms_sum_sqrt"))
    zero = jax.tree.map(jnp.ones_like, BLOCK.adapter().init(lm))
    adapter = recipe.adapter(zero)
    assert float(adapter.rule.rate) == pytest.approx(0.02)
    fast = adapter.init(lm)
    adapter.rule.init(fast)
    assert (getattr(adapter.rule, "statistics", None) is zero) == recipe.gathers
    if recipe.gathers:
        with pytest.raises(InputError, match="needs statistics"):
            recipe.adapter()


def test_a_pull_and_the_steps_reach_what_reads():
    recipe = Recipe("rms", 1e-3, 1, 64, steps=4, pull=10.0)
    assert float(recipe.adapter().rule.pull) == 10
    assert replace(recipe, pull=None).adapter().rule.pull is None
    policy = recipe.policy
    assert policy.actions.steps[policy.actions.names.index("UPDATE_4")] == 4 == policy.max_steps
    assert policy.max_steps == policy.least_steps


# --- what it is called


def test_recipes_that_differ_are_called_otherwise():
    made = [
        Recipe(rule, rate, blocks, cadence, steps, rank, pull)
        for rule in ("rms", "sgd") for rate in (0.1, 0.0003) for blocks in (0, 1, 2)
        for cadence in (64, 128) for steps in (1, 2) for rank in (None, 4, 16)
        for pull in (None, 10.0)
    ]  # fmt: skip
    assert len({recipe.label for recipe in made}) == len(set(made)) == len(made)
    assert len({(recipe.suffix_blocks, recipe.rank) for recipe in made}) == len(
        {recipe.where for recipe in made}
    )


def test_a_label_in_words():
    assert LAST.label == "normalized 0.1; the last state; a step per 64"
    recipe = Recipe("rms", 3e-4, 2, 128, steps=2, rank=8, pull=10.0)
    assert recipe.label == "rms 0.0003, pull 10; rank 8, 2 blocks; 2 steps per 128"
    assert BLOCK.where == "MLP outputs, 1 block"


# --- what it costs


def test_the_last_states_flops_are_the_ledgers(lm):
    config = lm.config
    for recipe in (LAST, replace(LAST, rank=4)):
        read, step = adapter_flops(config, rank=recipe.rank)
        once, twice = recipe.flops(config, 512), replace(recipe, steps=2).flops(config, 512)
        assert once.read == twice.read == read
        # A second step costs what it costs alone; the first finds its forward done.
        assert twice.step - once.step == step == adapter_step_flops(config, rank=recipe.rank)
        assert once.step == step - read - head_flops(config)


@pytest.mark.parametrize("recipe", [BLOCK, LOW, replace(LOW, steps=3)])
def test_the_last_blocks_flops_are_the_ledgers(lm, recipe):
    config, blocks = lm.config, recipe.suffix_blocks
    read, step = suffix_flops(
        config, 512, blocks, unit=64, targets=recipe.targets, rank=recipe.rank
    )
    again = again_flops(config, 512, blocks) + read
    expected = recipe.steps * step + (recipe.steps - 1) * again
    assert recipe.flops(config, 512) == AdapterFlops(read, expected)
    assert recipe.share(config, 512) == (read + expected) / forward_flops(config, 512)


WINDOW, U = 64, 32


def counted(lm: TransformerLM, recipe: Recipe):
    """Of reading a unit, of its first step, and of one more, a token: the products in a jaxpr."""
    adapter = recipe.adapter()
    fast, past, context = adapter.init(lm), (), ()
    if recipe.suffix_blocks:
        past = lm.no_past(recipe.suffix_blocks, Window(WINDOW), U)
        context = Context(rotary_angles(lm.config, U), jnp.asarray(WINDOW), WINDOW)
    hidden = jnp.ones((U, lm.config.width))
    unit = Unit(hidden, jnp.zeros(U, int), jnp.ones(U, bool), context, past)

    def read(fast):
        reading = adapter.read(lm, fast, unit, learns=False)
        return score(lm, reading, unit.tokens, unit.mask, False).nll

    def read_and_learn(fast):
        reading = adapter.read(lm, fast, unit, learns=True)
        known, reading = score_with_slope(lm, reading, unit.tokens, unit.mask)
        return known.nll, adapter.gradient(lm, fast, unit, reading)

    once, learned = multiplied(read, fast), multiplied(read_and_learn, fast)
    again = multiplied(lambda fast: adapter.gradient(lm, fast, unit), fast)
    return once / U, (learned - once) / U, again / U


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_the_products_that_are_asked_for(lm, kind):
    recipe, config = replace(KINDS[kind], cadence=U), lm.config
    blocks = recipe.suffix_blocks
    # The window of the ledger holds the unit: here it stands behind the past's.
    window = WINDOW + U if blocks else WINDOW
    read, first, more = counted(lm, recipe)
    analytic = recipe.flops(config, window)
    base = again_flops(config, window, blocks)
    assert read == base + analytic.read
    assert first == analytic.step
    twice = replace(recipe, steps=2).flops(config, window)
    assert more == twice.step - analytic.step


@pytest.mark.parametrize(
    "recipe", [LAST, replace(LAST, rank=4), BLOCK, replace(BLOCK, suffix_blocks=2), LOW]
)
@pytest.mark.parametrize("name", ITERATIONS)
def test_orthogonal_steps_cost_their_matrices_once_a_step(lm, recipe, name):
    config, muon = lm.config, replace(recipe, rule=name)
    fast = muon.adapter().init(lm)
    gradients = jax.tree.map(jnp.ones_like, fast)
    rule = muon.adapter().rule
    assert isinstance(rule, NewtonSchulz) and rule.iterations == ITERATIONS[name]
    expected = 0.0
    for leaf in jax.tree.leaves(gradients):
        *lead, rows, columns = leaf.shape
        expected += np.prod(lead) * orthogonalize_flops(rows, columns, rule.iterations)
    extra = muon.flops(config, 512).step - recipe.flops(config, 512).step
    assert extra * recipe.cadence == pytest.approx(expected)
    assert muon.flops(config, 512).read == recipe.flops(config, 512).read


def test_a_share_grows_with_steps_and_depth_and_falls_with_the_cadence_of_orthogonal_ones(lm):
    share = lambda recipe: recipe.share(lm.config, 512)  # noqa: E731
    assert 0 < share(LAST) < share(BLOCK) < share(replace(BLOCK, suffix_blocks=2))
    assert share(BLOCK) < share(replace(BLOCK, steps=2))
    muon = replace(BLOCK, rule="newton_schulz")
    assert share(BLOCK) < share(muon)
    assert share(replace(muon, cadence=128)) - share(replace(BLOCK, cadence=128)) == pytest.approx(
        (share(muon) - share(BLOCK)) / 2
    )


# --- bad input


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (replace(BLOCK, rule="nope"), "unknown rule 'nope': expected one of sgd, normalized"),
        (replace(BLOCK, rate=-1.0), "rate is -1.0"),
        (replace(BLOCK, pull=1.0), "rule 'normalized' takes no option 'pull'"),
        (replace(LOW, rank=300), "rank is 300: expected a whole number of 1 to 256"),
        (replace(BLOCK, suffix_blocks=-1), "suffix_blocks is -1"),
    ],
)
def test_what_no_adapter_can_be_is_refused(recipe, said):
    assert not recipe.gathers
    with pytest.raises(InputError, match=said):
        recipe.adapter()


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (replace(LOW, rank=32), "rank is 32: k takes 32 inputs to 16 outputs, expected at most 16"),
        (replace(LAST, rank=64), "rank is 64: the last state takes 32 inputs"),
        (replace(BLOCK, suffix_blocks=3), "suffix_blocks is 3: tiny has 2 blocks, expected 0 to 2"),
        (replace(BLOCK, rule="rms_sum", suffix_blocks=9), "suffix_blocks is 9"),
    ],
)
def test_what_a_model_has_no_room_for_is_refused_before_anything_runs(lm, recipe, said):
    with pytest.raises(InputError, match=said):
        recipe.check(lm)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_model_has_room_for_is_not(lm, kind):
    for rule in ("normalized", "rms_sum"):
        replace(KINDS[kind], rule=rule, pull=None).check(lm)
