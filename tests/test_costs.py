"""Analytic FLOPs against the compiler's count of a small unrolled program."""

import jax.numpy as jnp
import pytest

from ponderttt.evaluation.costs import forward_flops
from ponderttt.models.config import DecoderConfig
from ponderttt.models.lm import TransformerLM, _logits

# One block, since the compiler counts the body of a loop once; one query block, so that no key is
# left out of the attention products.
CONFIGS = {
    "llama": DecoderConfig.llama(
        vocab_size=4096, width=512, layers=1, heads=8, kv_heads=4, hidden=2048, max_positions=128
    ),
    "gpt2": DecoderConfig.gpt2(vocab_size=4096, width=512, layers=1, heads=8, max_positions=128),
}


@pytest.mark.parametrize("family", CONFIGS)
def test_forward_flops(family):
    tokens = jnp.zeros((1, 128), int)
    compiled = _logits.lower(TransformerLM.random(CONFIGS[family]), tokens).compile()
    counted = compiled.cost_analysis()["flops"] / tokens.size
    assert forward_flops(CONFIGS[family], 128) == pytest.approx(counted, rel=0.02)


def test_a_longer_window_costs_its_attention():
    config = CONFIGS["llama"]
    more = forward_flops(config, 256) - forward_flops(config, 128)
    assert more == 4 * 128 * 512
