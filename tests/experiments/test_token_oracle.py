"""The oracle of single tokens: every K at a position, against reading the text again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from ponderttt.errors import InputError
from ponderttt.experiments import extended_oracle_analysis, oracle, token_oracle
from ponderttt.experiments.extended_oracle_analysis import ExtendedOracleConfig
from ponderttt.experiments.oracle_analysis import OracleAnalysisConfig
from ponderttt.experiments.token_oracle import TokenOracleConfig, tables
from ponderttt.experiments.token_oracle.losses import position_losses, sample_positions
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
    found = tables.frontier(tokens, CONFIG.actions).set_index("mean_steps")
    assert found.loc[4.5, "oracle"] == pytest.approx(0.5)  # 8 and 1 steps
    assert found.loc[8.0, "same_for_all"] == pytest.approx(0.5)
    assert found.loc[1.0, "oracle"] == pytest.approx(0.0)
    shares = tables.optimal(tokens, CONFIG.actions).set_index("option")["share"]
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


def test_the_record_holds_every_size_and_no_number_of_steps_changes_another():
    """Once `token_steps >= 50` chose a larger model, which no record said."""
    for steps in (6, 49, 50, 300):
        config = TokenOracleConfig(train_steps=steps)
        assert dataclasses.replace(config, train_steps=6) == TokenOracleConfig()
        shape = dataclasses.replace(config.training(), max_train_batches=6)
        assert shape == TokenOracleConfig().training()
    assert (
        not {"token_steps", "token_batches", "sample_positions"} & oracle.CONFIG().__dict__.keys()
    )


def test_the_commands_run_the_experiment_and_write_what_it_found(tmp_path, capsys):
    command = ExtendedOracleConfig(
        max_batches=1, sample_positions=4, train_steps=2, max_length=24, hidden_dim=16,
        num_layers=2, horizon=8, output_dir=tmp_path,
    )  # fmt: skip
    asked = command.experiment()
    assert dataclasses.asdict(asked) == {
        "source": "wikipedia", "train_steps": 2, "batch_size": 8, "max_length": 24,
        "hidden_dim": 16, "num_layers": 2, "max_batches": 1, "sample_positions": 4, "horizon": 8,
        "seed": 0,
    }  # fmt: skip
    extended_oracle_analysis.run(command)
    result = token_oracle.run(asked)
    assert result.config == dataclasses.asdict(asked)
    assert result.scalars["positions"] == len(result.tables["tokens"]) == 8 * 4
    for name, table in result.tables.items():
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) == len(table)
    for name in ("oracle_tokens", "frontier", "difficulty"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.html").is_file()
    assert "How often each K is best" in capsys.readouterr().out


def test_a_command_refuses_what_its_experiment_cannot_use():
    with pytest.raises(InputError, match="sample_positions is 0"):
        OracleAnalysisConfig(sample_positions=0)
