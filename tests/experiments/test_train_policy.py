"""The command that trains a policy, and the pictures of what it did."""

import json
import sys

import pytest

from ponderttt import __main__
from ponderttt.errors import InputError
from ponderttt.experiments import train_policy
from ponderttt.experiments.train_policy import TrainPolicyConfig
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies.actor_critic import load_policy
from ponderttt.report.pages import train_policy as policy_training


@pytest.fixture
def config(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        train_policy, "load_scale", lambda scale: (TransformerLM.from_pretrained("tiny"), "tiny")
    )
    return TrainPolicyConfig(
        output_dir=tmp_path / "out", num_iterations=2, rollout_length=16, units=4, chunk_size=16,
        documents=6, seeds=(0, 1), source=str(folder),
    )  # fmt: skip


def test_the_same_seeds_twice_give_the_same_files_and_pictures(config, tmp_path, capsys):
    first = train_policy.run(config)
    files = sorted((tmp_path / "out" / "125m").iterdir())
    assert [f.name for f in files] == [
        "policy-0.safetensors", "policy-1.safetensors", "results.json"
    ]  # fmt: skip
    before = [f.read_bytes() for f in files]
    assert train_policy.run(config) == first
    assert [f.read_bytes() for f in files] == before
    said = capsys.readouterr().out
    assert "Rollout 4/4" in said and "Seed 1, iteration 2/2: reward=" in said
    seeds = json.loads(files[2].read_text())["seeds"]
    assert list(seeds) == ["0", "1"] and seeds["0"] != seeds["1"]
    assert all(1 <= cost <= 12 for cost in seeds["0"]["cost"])
    load_policy(files[0])

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
