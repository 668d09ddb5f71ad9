"""The baselines experiment on a tiny model and a folder of files: tables, resumption, bad input."""

import dataclasses

import pytest

from ponderttt.errors import InputError
from ponderttt.experiments import baselines, command, train_baseline
from ponderttt.experiments.baselines import BaselinesConfig
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.prepare import reader as episodes
from ponderttt.types import CHUNK_ACTIONS


@pytest.fixture
def config(folder):
    return BaselinesConfig(sources=(str(folder),), train_steps=2, test_documents=2)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path))
    return tmp_path


def test_the_tables_agree_with_one_another(config):
    tables = baselines.run(config).tables
    units, gains = tables["units"], tables["gains"]
    methods = ["base", "base x2", "base x4", *CHUNK_ACTIONS.names, "RANDOM", "rate 0"]
    assert set(units["method"]) == set(methods)
    per = units.groupby(["objective", "method"])
    assert (per.size() == 2 * 4).all()
    steps = per["steps"].mean()
    for objective in config.objectives:
        assert [steps[objective, name] for name in CHUNK_ACTIONS.names] == [0, 1, 2, 4]
    loss = units.groupby(["method", "objective"])["nll"].mean()
    row = gains.set_index(["source", "objective", "method"]).loc["all"]
    for objective in config.objectives:
        gain = loss["SKIP", objective] - loss["UPDATE_2", objective]
        assert row.loc[(objective, "UPDATE_2"), "gain"] == pytest.approx(gain, rel=1e-6)
        assert row.loc[(objective, "SKIP"), "gain"] == 0
    # The additive map is zero until the first update: SKIP is the base.
    assert loss["SKIP", "next_token"] == pytest.approx(loss["base", "none"], rel=1e-6)
    first = tables["positions"].query("unit == 0 and objective != 'none' and method != 'rate 0'")
    assert (first["gain"] == 0).all()
    assert tables["uniform"]["ok"].all()
    assert (tables["explorer"]["pieces"].map(len) == 64).all()


def test_a_killed_run_goes_on_and_ends_the_same(config, cache, monkeypatch):
    config = dataclasses.replace(config, objectives=("next_token",))
    whole = baselines.run(config)
    monkeypatch.setenv("PONDERTTT_CACHE", str(cache / "second"))
    computed, rollout = [], episodes.rollout

    def dying(*arguments, **how):
        if len(computed) == 20:
            raise KeyboardInterrupt
        computed.append(1)
        return rollout(*arguments, **how)

    monkeypatch.setattr(episodes, "rollout", dying)
    with pytest.raises(KeyboardInterrupt):
        baselines.run(config)
    counted = []
    monkeypatch.setattr(
        episodes, "rollout", lambda *a, **k: (counted.append(1), rollout(*a, **k))[1]
    )
    resumed = baselines.run(config)
    total = len(list((cache / "episodes").rglob("*.safetensors")))
    frozen = 3 * (2 + 2)  # windows of the base on two test and two uniform documents
    assert len(counted) == total - frozen - 20
    for name, table in whole.tables.items():
        assert table.equals(resumed.tables[name]), name

    victim = sorted((cache / "episodes").rglob("*.safetensors"))[0]
    victim.write_bytes(victim.read_bytes()[:-1])
    monkeypatch.setenv("PONDERTTT_CACHE", str(cache))
    with pytest.raises(InputError, match=f"{victim.name} is corrupt.*delete it"):
        baselines.run(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": ["nexttoken"]}, "objectives .*next_token, reconstruction"),
        ({"sources": "go"}, r"sources is 'go': expected a list, such as \[go\]"),
        ({"sources": []}, "sources is empty"),
        ({"units": 1}, "units is 1: expected 2 or more"),
        ({"units": 2.5}, "units is 2.5: expected a whole number"),
        ({"train_documents": True}, "expected a whole number"),
        ({"budget": 0.5}, "budget is 0.5: a mean of the actions' costs, expected 1 to 12"),
        ({"dispatch": "fast"}, "unknown dispatch 'fast': expected masked or switch"),
        ({"dtype": "float16"}, "unknown dtype 'float16': expected auto, float32 or bfloat16"),
        ({"model": "smollm"}, "unknown model 'smollm': expected smollm2-135m"),
        ({"sources": ["stdlib", "gopher"]}, "unknown source 'gopher': expected one of stdlib"),
    ],
)
def test_bad_parameters_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        BaselinesConfig(**change)


def test_a_source_without_documents_of_that_length():
    with pytest.raises(InputError, match="no test document of at least 4000 units"):
        baselines.run(BaselinesConfig(sources=("stdlib",), units=4000))


@pytest.mark.parametrize(("action", "cost"), [("SKIP", 10), ("UPDATE_1", 30), ("UPDATE_2", 50),
                                              ("UPDATE_4", 120)])  # fmt: skip
def test_train_baseline_prints_what_the_seeds_print(
    action, cost, folder, tmp_path, monkeypatch, capsys
):
    tiny = TransformerLM.from_pretrained("tiny")
    monkeypatch.setattr(command, "load_scale", lambda scale: tiny)
    train_baseline.run(
        train_baseline.TrainBaselineConfig(
            action=action,
            chunk_size=16,
            max_chunks_per_document=5,
            source=str(folder),
            output_dir=tmp_path,
        )  # fmt: skip
    )
    out = capsys.readouterr().out
    assert out.count("Chunk ") == 10 and "Chunk 10/10: loss=" in out
    assert "Average loss: " in out and f"Total cost: {cost:.1f}" in out
    assert (tmp_path / "125m" / action / "results.json").is_file()
