"""Losses that are not finite end a run with the place where they began; what was before is kept."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt import __main__ as command
from ponderttt.errors import InputError
from ponderttt.experiments import command as commands
from ponderttt.experiments.comparison import training
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.training import Trained
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.prepare.reader import Reader
from ponderttt.prepare.tuning import next_token, tune
from ponderttt.training.finite import NotFinite, check_finite


def test_finite_losses_are_nothing_and_others_are_placed():
    check_finite(np.zeros((2, 3)), ("a", "b"))
    check_finite(jnp.zeros(()), ())
    losses = np.zeros((3, 4))
    losses[1, 2], losses[2, 0] = np.inf, np.nan
    with pytest.raises(NotFinite, match="loss is inf from document b.py, unit 3 on") as error:
        check_finite(losses, ("document", "unit"), names={"document": ["a.py", "b.py", "c.py"]})
    with pytest.raises(NotFinite, match=r"the loss is 3e\+29 from unit 2 on"):
        check_finite([1e5, 3e29], ("unit",))
    assert error.value.place == (1, 2) and isinstance(error.value, InputError)
    with pytest.raises(NotFinite, match="the reward is nan from seed 42 on: expected finite"):
        check_finite([float("nan")], ("seed",), of="the reward", names={"seed": [42]})


@pytest.fixture
def tiny(monkeypatch):
    lm = TransformerLM.from_pretrained("tiny")
    monkeypatch.setattr(commands, "load_scale", lambda scale: lm)
    return lm


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        command.main([*map(str, arguments)])
    return stop.value.code


SIZES = ("--chunk_size", 16, "--device", "cpu")


@pytest.mark.parametrize("rate", ["1e30", "1e38"])
def test_a_baseline_that_diverges_ends_with_the_place_and_keeps_what_was_read(
    tiny, folder, tmp_path, capsys, rate
):
    code = run("train-baseline", "--source", folder, "--rate", rate, "--num_chunks", 6, "--action",
               "UPDATE_4", "--output_dir", tmp_path, *SIZES)  # fmt: skip
    said = capsys.readouterr()
    assert code == 2
    last = said.err.rstrip().splitlines()[-1]
    assert last.startswith(f"error: the loss at rate {float(rate):g} is ")
    assert "document file" in last and ", unit 2 on: expected finite losses; lower --rate" in last
    assert "nan" not in said.out and "inf" not in said.out
    [file] = tmp_path.rglob("results.json")
    kept = json.loads(file.read_text())["chunk_losses"]
    assert len(kept) == 1 and np.isfinite(kept).all()


@pytest.mark.parametrize("rate", ["inf", "nan", "-1", "1e400"])
def test_a_rate_that_is_no_number_is_refused_before_anything_is_read(rate, capsys):
    assert run("train-baseline", "--rate", rate) == 2
    assert run("train-policy", "--rate", rate) == 2
    assert capsys.readouterr().err.count("rate is") == 2


def test_a_rate_beyond_float32_is_refused_before_anything_is_read(capsys):
    assert run("train-baseline", "--rate", "1e39") == 2
    assert capsys.readouterr().err.startswith("error: rate is 1e+39: expected a finite number")


def test_a_policy_on_losses_that_diverge_is_not_trained(tiny, folder, tmp_path, capsys):
    code = run("train-policy", "--source", folder, "--rate", "1e30", "--num_iterations", 1,
               "--rollout_length", 4, "--units", 2, "--documents", 4, "--output_dir", tmp_path,
               *SIZES)  # fmt: skip
    said = capsys.readouterr()
    assert code == 2
    assert "from document file" in said.err and "lower --rate" in said.err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_policy_whose_training_diverges_keeps_the_iterations_before(
    tiny, folder, tmp_path, capsys, monkeypatch
):
    from ponderttt.experiments.live_policy import run as live

    true = live.PolicyTrainer.train

    def train(self, *arguments, **options):
        result = true(self, *arguments, **options)
        reward = result.history.reward.at[:, 2:].set(jnp.nan)
        return result._replace(history=result.history._replace(reward=reward))

    monkeypatch.setattr(live.PolicyTrainer, "train", train)
    code = run("train-policy", "--source", folder, "--rate", 1, "--num_iterations", 4,
               "--rollout_length", 8, "--units", 2, "--documents", 4, "--output_dir", tmp_path,
               *SIZES)  # fmt: skip
    said = capsys.readouterr()
    assert code == 2 and "the reward is nan from iteration 3, seed 0 on" in said.err
    assert "iteration 2/4" in said.out and "iteration 3/4" not in said.out
    [file] = tmp_path.rglob("results.json")
    assert len(json.loads(file.read_text())["seeds"]["0"]["reward"]) == 2
    assert not list(tmp_path.rglob("*.safetensors"))


def texts_of(tiny, folder, **options):
    from ponderttt.prepare.corpora import load_texts

    return load_texts(tiny, (str(folder),), unit=16, units=2, count=2, seed=0, **options)


def test_a_setting_that_diverges_is_not_chosen_and_the_gentlest_ends_the_run(tiny, folder):
    reader = Reader(tiny, "switch", 0)
    training, validation = (texts_of(tiny, folder, split=s) for s in ("train", "validation"))
    grid = [(0.1, None), (1e30, None)]
    found = tune(reader, next_token, grid, training, validation, budget=3.0, count=2)
    assert list(found.table["chosen"]) == [True, False, True] and found.adapter.rule.rate < 1
    with pytest.raises(NotFinite, match="from document 1, unit 2 on"):
        tune(reader, next_token, grid[1:], training, validation, budget=3.0, count=2)


def test_a_comparison_says_which_method_step_and_seed(monkeypatch):
    config = ComparisonConfig()
    arrays = dict.fromkeys(Trained._fields, np.zeros(1)) | {
        "loss": np.zeros((2, 6)), "test_nll": np.zeros((2, 3, 4)),
    }  # fmt: skip
    monkeypatch.setattr(training, "cached", lambda *_: arrays)
    monkeypatch.setattr(training, "settings_of", lambda *_: None)
    monkeypatch.setattr(training, "key_of", lambda *_: "")
    arrays["loss"][1, 4] = np.nan
    with pytest.raises(InputError, match="training loss of m is nan from step 5, seed 123 on"):
        training.train_method(config, "m", None, None)
    arrays["loss"][1, 4] = 0
    arrays["test_nll"][0, 2, 3] = np.inf
    with pytest.raises(InputError, match="test loss of m is inf from seed 42, window 3, token 4"):
        training.train_method(config, "m", None, None)
