"""The ledgers against the compiler's count, and their sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.errors import InputError
from ponderttt.evaluation.costs import compute_flops, compute_model_flops, ledgers
from ponderttt.evaluation.flops import AdapterFlops, forward_flops, head_flops, score_flops
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import Unit, token_losses
from ponderttt.models.decoder.families import llama
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.types import ActionSpace

U = 64
# One block, one query block, one block of the vocabulary: of a loop the compiler counts one body.
LM = TransformerLM.random(
    llama.config(
        vocab_size=2000, width=512, layers=1, heads=8, kv_heads=4, hidden=2048, max_positions=128
    )
)
UNIT = Unit(jnp.ones((U, 512)), jnp.zeros(U, int), jnp.ones(U, bool))


def counted(function, *arguments):
    """The compiler's FLOPs."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def test_ledgers_of_a_unit_are_what_the_compiler_counts():
    adapter = NextToken(SGD(jnp.asarray(0.1)))
    fast, tokens = adapter.init(LM), jnp.zeros((1, U), int)
    window = U
    forward = counted(lambda lm, tokens: lm.hidden_states(tokens), LM, tokens)
    score = counted(
        lambda lm, fast: token_losses(
            lm, adapter.read(lm, fast, UNIT, learns=False).hidden, UNIT.tokens
        ),
        LM,
        fast,
    )
    step = counted(lambda lm, fast: adapter.gradient(lm, fast, UNIT), LM, fast)
    steps = [0, 1, 4]
    result = ledgers(steps, config=LM.config, unit=U, window=window, decision=7.0)
    np.testing.assert_allclose(result.model, [forward + score + k * step for k in steps], rtol=0.02)
    np.testing.assert_array_equal(result.nominal, [1, 3, 12])
    base = U * forward_flops(LM.config, window) + 7.0
    np.testing.assert_allclose(result.model - result.adapter, [base] * 3)
    assert result.adapter[0] == U * (score_flops(LM.config) - head_flops(LM.config))


def test_ledgers_follow_the_action_space_the_adapter_and_the_mask():
    config = llama.tiny()
    space = ActionSpace(("K1", "K8"), (1, 8), (1.0, 8.0))
    result = ledgers(
        [[1, 8], [8, 8]], config=config, unit=2, actions=space, adapter=AdapterFlops(10, 100),
        mask=[[True, True], [True, False]],
    )  # fmt: skip
    assert result.nominal.tolist() == [[1.0, 8.0], [8.0, 0.0]]
    assert result.adapter.tolist() == [[220.0, 1620.0], [1620.0, 0.0]]
    assert result.model[1, 1] == 0.0 and result.model[0, 0] == 2 * forward_flops(config, 2) + 220
    longer = ledgers([1], config=config, unit=2, window=8, actions=space)
    assert longer.model[0] - longer.adapter[0] == 2 * forward_flops(config, 8)


def test_the_sums():
    config = llama.tiny()
    steps, mask = [[0, 1, 4], [2, 0, 0]], [[True, True, True], [True, False, False]]
    each = ledgers(steps, config=config, unit=8, decision=5.0, mask=mask)
    sums = compute_flops(steps, config=config, unit=8, decision=5.0, mask=mask)
    assert [sums[name] for name in each._fields] == pytest.approx([x.sum() for x in each])
    assert sums["per_token"] == pytest.approx(each.model.sum() / 32)


def test_a_models_flops_are_its_ledgers():
    config = llama.tiny()
    flops = compute_model_flops(config, 64, 4, unit=16, decision=5.0)
    whole = ledgers([4] * 4, config=config, unit=16, window=64, decision=5.0)
    assert flops["total"] == pytest.approx(whole.model.sum())
    assert flops["adapter"] == pytest.approx(whole.adapter.sum())
    assert flops["policy_network"] == 20.0
    parts = [flops[name] for name in ("blocks", "head", "adapter", "policy_network")]
    assert flops["total"] == sum(parts) and flops["per_token"] == flops["total"] / 64
    trained = compute_model_flops(config, 64, 4, include_backward=True, unit=16, decision=5.0)
    assert trained == {name: 3 * value for name, value in flops.items()}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: ledgers([0, 3], config=c, unit=8), "no action takes 3 steps"),
        (lambda c: ledgers([0, 1], config=c, unit=8, mask=[True]), "mask has shape"),
        (lambda c: compute_flops([], config=c, unit=8), "no unit"),
        (lambda c: compute_model_flops(c, 10, unit=4), "does not divide"),
        (lambda c: compute_model_flops(c, 0), "does not divide"),
        (lambda c: compute_model_flops(c, 8, -1), "num_steps is -1"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(InputError, match=said):
        call(llama.tiny())
