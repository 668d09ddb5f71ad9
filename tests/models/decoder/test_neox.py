"""GPT-NeoX: what is its own among the families; parity is in test_decoder and test_matrix."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.models.decoder.families import neox
from ponderttt.models.decoder.families.rotary import Rotary
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.weights import known_models, read_config

GOLDEN = Path(__file__).parents[2] / "golden"


def test_the_matrix_has_both_residuals_with_heads_turned_in_part_and_whole():
    matrix = np.load(GOLDEN / "matrix.npz")
    bases = [name for name in matrix.files if name.startswith("neox-") and name.endswith("/config")]
    configs = [json.loads(str(matrix[name])) for name in bases]
    found = {
        (c["use_parallel_residual"], c["rope_parameters"]["partial_rotary_factor"]) for c in configs
    }
    assert found == {(True, 0.25), (True, 1.0), (False, 0.25), (False, 1.0)}


def test_outputs_by_head_become_queries_then_keys_then_values():
    config = neox.config(vocab_size=5, width=4, layers=1, heads=2)
    named = np.array(["q0", "q1", "k0", "k1", "v0", "v1"])
    by_head = np.concatenate([np.char.add(named, "a"), np.char.add(named, "b")])
    expected = ["q0a", "q1a", "q0b", "q1b", "k0a", "k1a", "k0b", "k1b",
                "v0a", "v1a", "v0b", "v1b"]  # fmt: skip
    assert neox.by_kind(config, by_head).tolist() == expected
    weight = np.arange(48).reshape(12, 4)
    order = [np.flatnonzero(by_head == name)[0] for name in expected]
    np.testing.assert_array_equal(neox.by_kind(config, weight), weight[order].T)


@pytest.mark.parametrize(
    "change",
    [{"parallel_residual": False}, {"rotary_fraction": 1.0}, {"activation": "gelu_tanh"},
     {"rope_base": 500.0}],
)  # fmt: skip
def test_each_choice_changes_what_is_computed(change):
    config = neox.tiny()
    tokens = np.random.default_rng(0).integers(0, 257, (1, 40)).astype(np.int32)
    logits = TransformerLM.random(config).logits(tokens)
    changed = TransformerLM.random(config.replace(**change)).logits(tokens)
    assert jnp.abs(logits - changed).max() > 1e-4


def test_the_config_of_pythia_on_the_hub_is_the_preset(tmp_path):
    raw = {
        "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "classifier_dropout": 0.1,
        "eos_token_id": 0, "hidden_act": "gelu", "hidden_size": 512, "initializer_range": 0.02,
        "intermediate_size": 2048, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048,
        "model_type": "gpt_neox", "num_attention_heads": 8, "num_hidden_layers": 6,
        "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False,
        "torch_dtype": "float16", "transformers_version": "4.24.0", "use_cache": True,
        "use_parallel_residual": True, "vocab_size": 50304,
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw))
    assert read_config(path) == neox.PYTHIA["pythia-70m"]
    assert neox.PYTHIA["pythia-70m"].rotary_dim == 16


def test_what_config_json_leaves_out_is_what_transformers_takes(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "gpt_neox"}')
    assert read_config(path) == neox.config(
        vocab_size=50432, width=6144, layers=44, heads=64, rotary=Rotary(10_000.0, 0.25)
    )


def test_names_of_pythia_are_known():
    assert set(neox.PYTHIA) <= set(known_models())
    assert neox.FAMILY.hub["pythia-1.4b"] == "EleutherAI/pythia-1.4b"
