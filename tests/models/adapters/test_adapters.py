"""Adapters alone: how additions are scaled, what rule they offer, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.errors import InputError
from ponderttt.inner.update_rules import SGD, OnlineRMS
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import Adapter, Unit
from ponderttt.models.adapters.reconstruction import Reconstruction, ReconstructionLimit
from ponderttt.models.adapters.ttt_layer import TTTConfig, TTTLayer
from ponderttt.models.decoder.hidden import contexts
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window

U = 4
LOW_RANK = {
    "last state": {"rank": 4},
    "lora": {"rank": 4, "suffix_blocks": 2, "targets": ("q", "mlp_out")},
}


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


def unit_of(lm):
    hidden = jax.random.normal(jax.random.key(0), (U, lm.config.width))
    window = Window(U)
    context = contexts(lm, np.zeros(1, int), U, window)(0)[0]
    return Unit(hidden, jnp.arange(U), jnp.ones(U, bool), context, lm.no_past(2, window, U))


def states(adapter, lm, fast, unit):
    return adapter.read(lm, fast, unit, learns=False).hidden


def moved(adapter, lm):
    """Fast weights away from their start, where an addition is zero."""
    return jax.tree.map(lambda w: w + 0.1 * jnp.cos(jnp.arange(w.size).reshape(w.shape)),
                        adapter.init(lm))  # fmt: skip


def with_b_times(fast, factor):
    def times(path, w):
        return factor * w if jax.tree_util.keystr(path).endswith("['b']") else w

    return jax.tree.map_with_path(times, fast)


@pytest.mark.parametrize("name", LOW_RANK)
def test_alpha_scales_additions_by_alpha_over_rank(lm, name):
    plain, scaled = (NextToken(SGD(1.0), alpha=a, **LOW_RANK[name]) for a in (None, 12.0))
    unit, fast = unit_of(lm), moved(plain, lm)
    expected = states(plain, lm, with_b_times(fast, 3.0), unit)
    np.testing.assert_allclose(states(scaled, lm, fast, unit), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - states(plain, lm, fast, unit)).max() > 1e-3
    one, other = scaled.gradient(lm, fast, unit), plain.gradient(lm, with_b_times(fast, 3.0), unit)
    for (path, x), (_, y) in zip(
        jax.tree.leaves_with_path(one),
        jax.tree.leaves_with_path(with_b_times(other, 3.0)),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6, err_msg=str(path))
    of_rank = dataclasses.replace(scaled, alpha=4.0)
    np.testing.assert_array_equal(states(of_rank, lm, fast, unit), states(plain, lm, fast, unit))


def test_alpha_and_the_rule_s_numbers_are_leaves():
    made = NextToken(OnlineRMS(0.1), rank=4, alpha=8.0)
    assert sorted(jax.tree.leaves(made)) == [1e-8, 0.1, 0.9, 8.0]
    doubled = jax.tree.map(lambda x: 2 * x, made)
    assert isinstance(doubled.rule, OnlineRMS) and doubled.alpha == 16.0 and doubled.rank == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank is 0: expected a whole number of 1 to 256, or None for full rank"),
        ({"rank": 257}, "rank is 257: expected a whole number of 1 to 256"),
        ({"rank": 4.0}, "rank is 4.0"),
        ({"rank": True}, "rank is True"),
        ({"alpha": 8.0}, "alpha scales low-rank additions: give rank= too"),
        ({"rank": 4, "alpha": 0.0}, "alpha is 0.0: expected a finite number above 0"),
        ({"rank": 4, "alpha": np.inf}, "alpha is inf"),
        ({"suffix_blocks": 3, "targets": ()}, "targets is empty"),
        ({"suffix_blocks": 3, "targets": ("q", "q")}, "targets holds 'q' twice"),
        ({"targets": ("q",)}, "targets name products of the last blocks: give suffix_blocks= too"),
        ({"suffix_blocks": -1}, "suffix_blocks is -1: expected 0 or more"),
        ({"suffix_blocks": 1.5}, "suffix_blocks is 1.5"),
    ],
)
def test_a_bad_adapter_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        NextToken(SGD(1.0), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 33}, "rank is 33: the last state takes 32 inputs to 32 outputs, .* at most 32"),
        ({"rank": 33, "suffix_blocks": 1}, "rank is 33: mlp_out takes .* expected at most 32"),
        ({"suffix_blocks": 1, "targets": ("mlp",)}, "unknown projection 'mlp': expected "),
    ],
)
def test_what_does_not_fit_the_model_is_refused(lm, options, message):
    with pytest.raises(InputError, match=message):
        NextToken(SGD(1.0), **options).init(lm)


def test_reconstruction_offers_its_learned_rates_as_sgd():
    layer = TTTLayer(TTTConfig(32, head_dim=16, chunk_size=U))
    layer.log_rate[...] = jnp.log(jnp.asarray([0.1, 0.2]))
    made = Reconstruction.of(layer, scale=2.0, clip=0.5)
    assert isinstance(made.rule, SGD) and made.rule.clip == 0.5 and made.rule.decay is None
    np.testing.assert_allclose(made.rule.rate, [0.2, 0.4], rtol=1e-6)
    assert ReconstructionLimit.of(layer).rule.rate == 1
    for adapter in (made, NextToken(SGD(1.0))):
        assert isinstance(adapter, Adapter)
