"""The command that trains a policy, and the pictures of what it did."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from ponderttt import __main__, progress
from ponderttt.allocation import stream
from ponderttt.environment.tree import path_nodes
from ponderttt.errors import InputError
from ponderttt.experiments import command, train_policy
from ponderttt.experiments.live_policy.run import prepare_text
from ponderttt.experiments.train_policy import TrainPolicyConfig
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies.actor_critic import load_policy
from ponderttt.policies.features import DESCRIBED, NAMES
from ponderttt.prepare.corpora import load_texts
from ponderttt.prepare.description import token_table
from ponderttt.prepare.tuning import NEXT_TOKEN_GRID, next_token
from ponderttt.report.pages import train_policy as policy_training
from ponderttt.training.policy_trainer import World

UNMOVED = np.asarray([NAMES.index(name) for name in (*DESCRIBED, "position", "log_tokens")])


@pytest.fixture
def config(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "load_scale", lambda scale: TransformerLM.from_pretrained("tiny"))
    return TrainPolicyConfig(
        output_dir=tmp_path / "out", num_iterations=2, rollout_length=16, units=4, chunk_size=16,
        documents=6, seeds=(0, 1), source=str(folder),
    )  # fmt: skip


def test_the_same_seeds_twice_give_the_same_files_and_pictures(
    config, tmp_path, capsys, monkeypatch
):
    told = []
    monkeypatch.setenv("PONDERTTT_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(progress, "SECONDS_APART", 0)
    monkeypatch.setattr(progress, "write_text", lambda _, text: told.append(json.loads(text)))
    first = train_policy.run(config)
    rollouts = [each["done"] for each in told if each["label"] == "rollouts"]
    assert rollouts == [0, 1, 2, 3, 4] and told[-1]["total"] == 4
    files = sorted((tmp_path / "out" / "125m").iterdir())
    assert [f.name for f in files] == [
        "policy-0.safetensors", "policy-1.safetensors", "results.json"
    ]  # fmt: skip
    before = [f.read_bytes() for f in files]
    assert train_policy.run(config) == first
    assert [f.read_bytes() for f in files] == before
    said = capsys.readouterr().out
    assert "Rollout" not in said and "Seed 1, iteration 2/2: reward=" in said
    seeds = json.loads(files[2].read_text())["seeds"]
    assert list(seeds) == ["0", "1"] and seeds["0"] != seeds["1"]
    assert all(1 <= cost <= 12 for cost in seeds["0"]["cost"])
    load_policy(files[0])
    # The rate is tuned as the allocation experiments tune theirs, and the file says which it was.
    used = first["config"]
    assert (used["rate"], used["clip"]) in NEXT_TOKEN_GRID
    given = dataclasses.replace(config, rate=used["rate"], clip=used["clip"])
    assert train_policy.run(given) == first

    written = policy_training.save(files[2], tmp_path / "figures")
    assert [p.name for p in written] == [
        "training_history.png", "training_history.html",
        "action_distribution.png", "action_distribution.html",
    ]  # fmt: skip
    for path in written:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG") if path.suffix == ".png" else b"vega" in content
        assert b"cdn.jsdelivr" not in content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget_limit": 31.0}, "infeasible: never updating costs 32 on 32 units"),
        ({"rollout_length": 30}, "not a number of documents of 8 units"),
        ({"documents": 2}, "an iteration reads 8 documents"),
        ({"units": 1}, "a step pays on the next unit"),
        ({"seeds": ()}, "seeds is empty"),
        ({"clip": 0.1}, "clip is 0.1 and rate is tuned, with its clip: expected both, or neither"),
        ({"num_iterations": 0}, "num_iterations is 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        TrainPolicyConfig(**change)


def test_a_file_that_is_no_result_is_one_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "results.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["ponderttt"])
    with pytest.raises(SystemExit) as end:
        __main__.main(["visualize", "--results-file", str(tmp_path / "results.json")])
    assert end.value.code == 2
    assert "is no result of a training run" in capsys.readouterr().err


def test_the_world_has_the_constants_of_the_allocation_experiments(folder):
    """On documents that a tree can hold, live text and the tree give the same constants."""
    lm = TransformerLM.from_pretrained("tiny")
    training = load_texts(lm, (str(folder),), split="train", unit=16, units=4, count=6, seed=0)
    adapter = next_token(8.0, 0.05)
    text = prepare_text(lm, adapter, training, budget=1.0)
    tree, known = stream._grow(lm, adapter, token_table(lm, training), training, "training")
    np.testing.assert_allclose(text.described, known, rtol=1e-6)
    # Another draw of the same policy: the constants that no action moves are the same.
    constants = stream._constants(tree, known, 0)
    for name in ("mean", "scale"):
        live, of_tree = getattr(text.extractor, name), getattr(constants, name)
        np.testing.assert_allclose(live[UNMOVED], of_tree[UNMOVED], rtol=2e-4, atol=2e-4)
    never = tree.nll[:, path_nodes(np.zeros(4, int))]
    np.testing.assert_allclose(World.of(text).skip_nll, never, rtol=1e-4)
