"""Policy files as users have them: damaged, of another kind, edited."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save, save_file
from support import faults

from ponderttt.errors import InputError
from ponderttt.models.policy_network import PolicyNetworkConfig, init_policy
from ponderttt.policies.actor_critic import ActorCritic, load_policy, save_policy
from ponderttt.policies.features import FeatureExtractor


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(tensors, header) of a policy file, and its path."""
    path = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    network = PolicyNetworkConfig()
    policy = ActorCritic(init_policy(network, jax.random.key(0)), network)
    save_policy(path, policy, FeatureExtractor.raw(budget=1.0))
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["ponderttt"])
    return load_file(path), header, path


def refused(path, match="policy"):
    with pytest.raises(InputError, match=match) as error:
        load_policy(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_whole_file_is_read(whole):
    policy, _ = load_policy(whole[2])
    assert policy.network == PolicyNetworkConfig()


@pytest.mark.parametrize("key", ["features", "network", "actions"])
@pytest.mark.parametrize("value", [None, 7.5, "x", [], {}, {"width": "a"}, {"names": 1}])
def test_a_header_with_a_mistake_is_one_line(whole, tmp_path, key, value):
    header = whole[1] | {key: value}
    save_file(whole[0], tmp_path / "p.safetensors", {"ponderttt": json.dumps(header)})
    if key == "network" and value == {}:  # all its fields have defaults
        assert load_policy(tmp_path / "p.safetensors")
    else:
        refused(tmp_path / "p.safetensors")


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "[" * 20_000, "null"])
def test_a_header_that_is_none_is_one_line(whole, tmp_path, text):
    save_file(whole[0], tmp_path / "p.safetensors", {"ponderttt": text})
    refused(tmp_path / "p.safetensors")


def test_tensors_that_are_absent_or_of_another_shape_are_named(whole, tmp_path):
    tensors, header, _ = whole
    name = next(iter(tensors))
    for changed in (
        {key: tensor for key, tensor in tensors.items() if key != name},
        tensors | {name: np.zeros((1, 2, 3), np.float32)},
        tensors | {name: tensors[name].astype(np.float16)},
    ):
        save_file(changed, tmp_path / "p.safetensors", {"ponderttt": json.dumps(header)})
        refused(tmp_path / "p.safetensors", "is damaged: .*expected float32 of shape")


def test_what_is_no_file_is_one_line(tmp_path):
    (tmp_path / "empty").touch()
    for path in (tmp_path, tmp_path / "absent", tmp_path / "empty", tmp_path / "empty" / "x"):
        refused(path)


@pytest.mark.faults
@faults.examples(full=150, sample=25)
@given(data=st.data())
def test_any_bytes_are_a_policy_or_one_line(whole, tmp_path, data):
    content = bytearray(whole[2].read_bytes())
    size = int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, size + 7))] = data.draw(st.integers(0, 255))
    content = data.draw(st.just(bytes(content)) | st.binary(max_size=64) | st.just(save({})))
    path = tmp_path / "p.safetensors"
    path.write_bytes(content)
    try:
        load_policy(path)
    except InputError as error:
        assert "\n" not in str(error)
