"""Model files from a hub on the loopback: every answer ends as the files, or as one line."""

import json
import re
import time

import numpy as np
import pytest
from support.checkpoints import save
from support.hub_server import COMMIT, hub, python

from ponderttt.data import hub as hub_module
from ponderttt.data.hub import is_hub_id

API, WEIGHTS = "/api/models/owner/model", "model.safetensors"
FILES = {
    "config.json": b'{"a": 1}', WEIGHTS: np.random.default_rng(0).bytes(300_000),
    "README.md": b"not asked for", "pytorch_model.bin": b"nor this",
}  # fmt: skip
SCRIPT = """
import sys
from huggingface_hub import constants
from ponderttt.data import hub
constants.DOWNLOAD_CHUNK_SIZE = 1000  # what is kept of a transfer that was cut: whole pieces
from ponderttt.errors import InputError
hub.TIMEOUT, hub.PATIENCE = 1, 3
try:
    print(hub.hub_folder("owner/model", ("config.json", "model.safetensors")))
except InputError as error:
    sys.exit(f"error: {error}")
"""


def fetched(done, home):
    """That the files are there and whole."""
    assert done.returncode == 0, done.stderr
    folder = home / "hub" / "models--owner--model" / "snapshots" / COMMIT
    assert done.stdout.strip() == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", WEIGHTS]
    assert all((folder / name).read_bytes() == FILES[name] for name in ("config.json", WEIGHTS))


def ranges(server):
    """From which byte the weights were asked for, each time."""
    return [
        int((asked or "bytes=0-")[6:].partition("-")[0])
        for kind, path, asked in server.requests
        if kind == "GET" and path.endswith(WEIGHTS)
    ]


@pytest.mark.parametrize(
    ("faults", "asked"),
    [
        ({API: [429]}, [0]),
        ({f"/tree/{COMMIT}": [429], WEIGHTS: [429]}, [0, 0]),
        ({WEIGHTS: ["hang", "cut", "none", "cut"]}, [0, 0, 150_000, 150_000, 225_000]),
    ],
)
def test_what_can_be_had_is_whole_in_the_end(tmp_path, faults, asked):
    with hub(FILES, faults) as server:
        fetched(python(SCRIPT, server.url, tmp_path), tmp_path)
        assert ranges(server) == asked


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({API: [401, "always"]}, "'owner/model' is gated: ask for access at .*hf auth login"),
        ({WEIGHTS: [403, "always"]}, "'owner/model' is gated"),
        ({API: [404, "always"]}, "the hub refuses 'owner/model' .*check the name"),
        ({API: [429, "always"]}, r"the hub is too busy \(status 429\) and .*try again later"),
        ({API: [503, "always"]}, r"the hub is too busy \(status 503\) and .*try again later"),
        (
            {API: ["hang", "always"]},
            "the hub is out of reach and 'owner/model' is not in its cache",
        ),
    ],
)
def test_what_cannot_is_one_line(tmp_path, faults, said):
    with hub(FILES, faults) as server:
        done = python(SCRIPT, server.url, tmp_path)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and done.stdout == ""
    assert len(lines) == 1 and re.search(said, lines[0]), done.stderr


def test_after_a_download_that_failed_what_came_whole_is_not_fetched_again(tmp_path):
    with hub(FILES, {WEIGHTS: ["cut", *6 * ["none"]]}) as server:
        done = python(SCRIPT, server.url, tmp_path)
        assert done.returncode == 1 and "error: the hub is out of reach" in done.stderr
        assert ranges(server)[0] == 0 and set(ranges(server)[1:]) == {150_000}
    with hub(FILES) as server:
        fetched(python(SCRIPT, server.url, tmp_path), tmp_path)
        assert ranges(server) == [0]
        assert not [path for kind, path, _ in server.requests
                    if kind == "GET" and path.endswith("config.json")]  # fmt: skip


@pytest.mark.parametrize("fault", [503, "hang"])
def test_what_was_fetched_before_is_used_where_the_hub_does_not_answer(tmp_path, fault):
    with hub(FILES) as server:
        fetched(python(SCRIPT, server.url, tmp_path), tmp_path)
    with hub(FILES, {API: [fault, "always"]}) as server:
        fetched(python(SCRIPT, server.url, tmp_path), tmp_path)
        assert ranges(server) == []


def test_a_hub_that_asks_for_more_patience_than_there_is_is_not_waited_for(tmp_path):
    with hub(FILES, {API: [429, "always"]}, wait="3600") as server:
        start = time.monotonic()
        done = python(SCRIPT, server.url, tmp_path)
        assert done.returncode == 1 and time.monotonic() - start < 60
        assert [path for _, path, _ in server.requests] == [API]


def test_a_model_of_the_hub_is_read_as_one_of_a_folder(tmp_path):
    """From the name to the parameters: GPT-NeoX, its config and tensors as the hub has them."""
    config = {"model_type": "gpt_neox", "vocab_size": 5, "hidden_size": 8, "num_hidden_layers": 1,
              "num_attention_heads": 2, "intermediate_size": 8, "rotary_pct": 0.5}  # fmt: skip
    rng = np.random.default_rng(0)
    block = {
        "attention.query_key_value": (24, 8), "attention.dense": (8, 8),
        "mlp.dense_h_to_4h": (8, 8), "mlp.dense_4h_to_h": (8, 8),
    }  # fmt: skip
    norms = ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "final_layer_norm")
    shapes = {f"layers.0.{name}.weight": shape for name, shape in block.items()}
    shapes |= {f"layers.0.{name}.bias": shape[:1] for name, shape in block.items()}
    shapes |= {f"{name}.{part}": (8,) for name in norms for part in ("weight", "bias")}
    shapes |= {"embed_in.weight": (5, 8)}
    tensors = {f"gpt_neox.{name}": rng.normal(size=shape) for name, shape in shapes.items()}
    save(tmp_path / WEIGHTS, tensors | {"embed_out.weight": rng.normal(size=(5, 8))}, "F16")
    files = {WEIGHTS: (tmp_path / WEIGHTS).read_bytes(), "config.json": json.dumps(config).encode()}
    script = """
from ponderttt.models.decoder.weights import load_weights
weights = load_weights("owner/model")
print(weights.config.family, weights.params["blocks.qkv"].shape, weights.tokenizer_name)
"""
    with hub(files) as server:
        done = python(script, server.url, tmp_path / "home")
    assert done.stdout.strip() == "gpt_neox (1, 8, 24) owner/model", done.stderr


@pytest.mark.parametrize("wait", ["", "soon", "-1", "1e9", "٣"])
def test_a_wait_that_is_no_number_is_none(wait):
    class Refused(Exception):
        response = type("Response", (), {"headers": {"Retry-After": wait}, "status_code": 429})()

    assert hub_module._retry_after(Refused()) == 0


def test_what_reads_as_a_hub_id():
    assert is_hub_id("EleutherAI/pythia-70m") and not is_hub_id("../model")
