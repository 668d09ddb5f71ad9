"""Whatever stands in a model's files: a model, or one line."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.checkpoints import halves, save, shard
from support.faults import examples

from ponderttt.errors import InputError
from ponderttt.models.decoder.families import FAMILIES
from ponderttt.models.decoder.files import INDEX, WEIGHTS, read_tensors, weight_files
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.parameters import param_shapes
from ponderttt.models.decoder.weights import read_config

pytestmark = pytest.mark.faults
SOME = examples(full=600, sample=60)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor"]
        ) | st.text(max_size=4),
        inner, max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip
KEYS = {
    "gpt2": "vocab_size n_embd n_layer n_head n_inner n_positions activation_function hidden_size "
    "layer_norm_epsilon tie_word_embeddings scale_attn_weights auto_map model_type",
    "llama": "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads head_dim hidden_act max_position_embeddings rms_norm_eps rope_theta "
    "rope_parameters rope_scaling tie_word_embeddings attention_bias sliding_window dtype",
    "qwen2": "vocab_size hidden_size num_attention_heads num_key_value_heads rope_parameters "
    "rope_scaling use_sliding_window sliding_window layer_types attention_bias",
    "gpt_neox": "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "hidden_act max_position_embeddings layer_norm_eps use_parallel_residual attention_bias "
    "rotary_pct rotary_emb_base rope_parameters rope_scaling tie_word_embeddings head_dim dtype",
}


def one_line(attempt):
    """What `attempt` gives, None where it is refused in one line."""
    try:
        return attempt()
    except InputError as error:
        assert len(str(error).splitlines()) == 1, str(error)
    return None


@pytest.mark.lists
@SOME
@given(data=st.data(), family=st.sampled_from(sorted(KEYS)))
def test_any_configuration_is_read_or_refused(tmp_path, data, family):
    names = st.sampled_from(KEYS[family].split()) | st.text(max_size=5)
    changes = data.draw(st.dictionaries(names, VALUES, min_size=1, max_size=4))
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": family} | changes))
    config = one_line(lambda: read_config(path))
    if config is not None:
        assert all(min(shape) > 0 for shape in param_shapes(config).values())


@SOME
@given(content=st.binary(max_size=40), name=st.sampled_from([WEIGHTS, INDEX, "config.json"]))
def test_any_bytes_are_read_or_refused(tmp_path, content, name):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    for each in (WEIGHTS, INDEX):
        (tmp_path / each).unlink(missing_ok=True)
    (tmp_path / name).write_bytes(content)
    assert one_line(lambda: TransformerLM.from_pretrained(tmp_path)) is None


@SOME
@given(header=st.dictionaries(st.text(max_size=6), VALUES, max_size=3))
def test_any_header_is_read_or_refused(tmp_path, header):
    head = json.dumps(header).encode()
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / WEIGHTS).write_bytes(struct.pack("<Q", len(head)) + head)
    assert one_line(lambda: TransformerLM.from_pretrained(tmp_path)) is None


@SOME
@given(said=VALUES | st.dictionaries(st.text(max_size=6), st.text(max_size=8)))
def test_any_index_is_read_or_refused(tmp_path, said):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": said}))
    with pytest.raises(InputError) as error:
        weight_files(tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_a_deep_configuration_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="config.json is nested too deeply"):
        TransformerLM.from_pretrained(tmp_path)


def test_a_pointer_in_place_of_weights_is_named(tmp_path):
    (tmp_path / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InputError, match="is damaged: a pointer of Git LFS.*git lfs pull"):
        read_tensors(weight_files(tmp_path))


def test_a_name_that_is_no_line_is_escaped(tmp_path):
    save(tmp_path / WEIGHTS, {"a\nb": np.zeros(2, np.float32)})
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match=r"tensor a\\nb is of no known kind"):
        TransformerLM.from_pretrained(tmp_path)


def test_files_are_those_of_the_index_in_whatever_order(tmp_path):
    tensors = {f"t{i}": np.full(2, i, np.float32) for i in range(7)}
    shard(tmp_path, halves(tensors, 3))
    save(tmp_path / "model-00009-of-00009.safetensors", tensors)
    files = weight_files(tmp_path)
    assert [path.name for path in files] == sorted(halves(tensors, 3))
    found = {tensor.name: tensor.read() for tensor in read_tensors(files)}
    assert sorted(found) == sorted(tensors)
    assert all((found[name] == tensors[name]).all() for name in found)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_rules_of_a_family_fill_every_parameter_once(family):
    """By columns too: what is complete by the table leaves nothing unfilled."""
    from ponderttt.models.decoder.checkpoint import column_slice

    for config in FAMILIES[family].random.values():
        config = config.replace(
            tied_head=False, qkv_bias=True, attention_out_bias=True, mlp_bias=True
        )
        for target, shape in param_shapes(config).items():
            filled = np.zeros(shape[-1], int)
            for rule in FAMILIES[family].rules:
                if rule.target == target:
                    filled[column_slice(config, rule.columns)] += 1
            assert (filled == 1).all(), target
