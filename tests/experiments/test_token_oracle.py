"""The oracle of single tokens: every K at a position, against reading the text again."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from ponderttt.errors import InputError
from ponderttt.experiments.oracle_analysis import OracleAnalysisConfig
from ponderttt.experiments.token_oracle import run as token_level
from ponderttt.experiments.token_oracle.losses import position_losses, sample_positions
from ponderttt.experiments.token_oracle.run import TokenOracleConfig
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.models.iterative.model import IterativeTransformerTTT
from ponderttt.types import IGNORED

B, T, V, HORIZON = 2, 20, 40, 6
CONFIG = IterativeTransformerConfig(
    vocab_size=V, hidden_dim=16, num_layers=2, num_heads=2, ffn_dim=32, max_length=T,
    ttt_layer_indices=(0, 1), fast_weight="linear",
)  # fmt: skip


def test_every_option_at_a_position_is_the_text_read_again():
    model = IterativeTransformerTTT(CONFIG)
    graph, weights = nnx.split(model, nnx.Param)
    ids = jax.random.randint(jax.random.key(0), (B, T + 1), 0, V)
    inputs, labels = ids[:, :-1], ids[:, 1:].at[1, -3:].set(IGNORED)
    positions = jnp.asarray([[3, 9], [5, 12]])
    loss, difficulty = position_losses(
        graph, weights, inputs, labels, positions, reference=4, horizon=HORIZON
    )
    base = np.asarray(model(inputs, labels, 4).nll)
    for b in range(B):
        for p, position in enumerate(np.asarray(positions[b])):
            assert float(difficulty[b, p]) == pytest.approx(base[b, position - 1], abs=1e-5)
            for a, option in enumerate(CONFIG.step_options):
                steps = np.full((B, T), 4)
                steps[b, position] = option
                nll = np.asarray(model(inputs, labels, jnp.asarray(steps)).nll)
                assert (nll[b, :position] == base[b, :position]).all()  # the past stays
                expected = nll[b, position : position + HORIZON].sum()
                assert float(loss[b, p, a]) == pytest.approx(expected, abs=1e-4)
    assert float(jnp.ptp(loss, axis=-1).min()) > 0  # the decision reaches its own prediction


def test_positions_leave_room_on_both_sides():
    mask = np.ones((3, 30), bool)
    mask[1, 20:] = False
    positions = sample_positions(mask, 10, 8, seed=0)
    assert positions.shape == (3, 10)
    assert positions.min() >= 1
    assert positions[0].max() < 22
    assert positions[1].max() < 12
    assert all(len(set(row)) == 10 for row in positions)
    assert (sample_positions(mask, 10, 8, seed=0) == positions).all()
    with pytest.raises(InputError, match="20 tokens: 12 positions with 8 tokens behind them need"):
        sample_positions(mask, 12, 8, seed=0)


def test_the_frontier_spends_where_it_gains():
    """Two positions: one gains 1.0 by K8, the other nothing by anything."""
    loss = [[5.0, 5.0, 5.0, 4.0], [3.0, 3.0, 3.0, 3.0]]
    tokens = pd.DataFrame(loss, columns=["K1", "K2", "K4", "K8"]).assign(document=["a", "b"])
    found = token_level.frontier(tokens, CONFIG.actions).set_index("mean_steps")
    assert found.loc[4.5, "oracle"] == pytest.approx(0.5)  # 8 and 1 steps
    assert found.loc[8.0, "same_for_all"] == pytest.approx(0.5)
    assert found.loc[1.0, "oracle"] == pytest.approx(0.0)
    shares = token_level.optimal(tokens, CONFIG.actions).set_index("option")["share"]
    assert shares.to_dict() == {"K1": 0.5, "K2": 0.0, "K4": 0.0, "K8": 0.5}  # cheaper of equals


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sample_positions": 0}, "sample_positions is 0"),
        ({"sample_positions": 40, "horizon": 16}, "do not fit into 48 tokens"),
        ({"source": "/nowhere"}, "unknown language source"),
    ],
)
def test_bad_input_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        TokenOracleConfig(**options)


def test_the_command_asks_for_the_same_experiment():
    config = OracleAnalysisConfig(max_batches=2, sample_positions=16).experiment()
    assert (config.max_batches, config.sample_positions) == (2, 16)
