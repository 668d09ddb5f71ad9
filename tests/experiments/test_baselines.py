"""The baselines experiment on a tiny model and a folder of files: tables, resumption, bad input."""

import dataclasses
from functools import partial
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest

from ponderttt.errors import InputError
from ponderttt.experiments import baselines, command, train_baseline
from ponderttt.experiments.baselines import BaselinesConfig
from ponderttt.experiments.baselines.chunks import plan_chunks
from ponderttt.experiments.comparison import ComparisonConfig, files, significance
from ponderttt.inner.update_rules import RULES
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.prepare import reader as episodes
from ponderttt.prepare.tuning import FIRST_TRIES
from ponderttt.result import Result
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


def baseline(source, monkeypatch, **options) -> dict:
    tiny = TransformerLM.from_pretrained("tiny")
    monkeypatch.setattr(command, "load_scale", lambda scale: tiny)
    options = {"chunk_size": 16, "num_chunks": 4} | options
    return train_baseline.run(train_baseline.TrainBaselineConfig(source=str(source), **options))


@pytest.fixture
def few(tmp_path):
    """Five files of 48 bytes a line: 480, 432, ... 288 bytes."""
    for i in range(5):
        lines = [
            f"value_{i:02d}_{line:03d} = compute_something(of={line:03d})\n" for line in range(10)
        ]
        (tmp_path / f"{i}.py").write_text("".join(lines[: 10 - i]))
    return tmp_path


@pytest.mark.parametrize("split", ["test", "all"])
def test_a_few_files_are_all_read_and_nothing_is_trained(few, monkeypatch, capsys, split):
    result = baseline(few, monkeypatch, split=split)
    assert len(result["chunk_losses"]) == 4
    assert "test 5 (under 20 texts and no split folders: all are test)" in capsys.readouterr().out
    assert "dropped: nothing" in result["read"]


def test_one_file_gives_the_chunks_that_it_has_and_says_so(few, monkeypatch, capsys):
    size = len((few / "0.py").read_bytes()) // 3
    result = baseline(few / "0.py", monkeypatch, chunk_size=size, num_chunks=10)
    said = capsys.readouterr().out
    assert len(result["chunk_losses"]) == 3 and "Chunk 3/3: loss=" in said
    assert f"3 chunks of {size} tokens are read, not 10" in said


def test_a_split_that_is_not_there_names_an_option_that_is(few, monkeypatch):
    with pytest.raises(InputError, match="no train document.*--split all"):
        baseline(few, monkeypatch, split="train")
    with pytest.raises(InputError, match="lower chunk_size"):
        baseline(few, monkeypatch, chunk_size=9000)


@pytest.mark.parametrize("rule", ["sgd", "normalized", "rms", "adamw", "newton_schulz"])
def test_with_a_window_a_folder_is_one_repository(few, monkeypatch, capsys, rule):
    """File by file in the order of paths; what is learned is carried on, or not."""
    how = {"rule": rule, "suffix_blocks": 1, "action": "UPDATE_1"}
    how |= {"num_chunks": 50, "chunk_size": 64, "window": 128}
    carried = baseline(few, monkeypatch, **how)
    said = capsys.readouterr().out
    sizes = [len(file.read_bytes()) for file in sorted(few.iterdir())]
    count = sum(-(-size // 64) for size in sizes)
    assert f"Repository {few.name}: 5 files, {count} chunks of 64 tokens" in said
    assert f"{count} chunks are read, not 50" in said and f"Chunk {count}/{count}: loss=" in said
    each = baseline(few, monkeypatch, reset="file", **how)
    first = -(-sizes[0] // 64)
    assert carried["chunk_losses"][:first] == each["chunk_losses"][:first]
    assert carried["chunk_losses"][first:] != each["chunk_losses"][first:]
    skip = baseline(few, monkeypatch, **how | {"action": "SKIP"})
    assert skip["chunk_losses"][0] == carried["chunk_losses"][0]
    assert skip["average_loss"] != carried["average_loss"]


def test_what_a_window_cannot_be_is_said(few, monkeypatch):
    for how, message in [
        ({"window": 8192}, "positions for .*; lower window"),
        ({"window": 24}, "16 tokens does not divide the window of 24"),
        ({"reset": "file"}, "reset says .*: give window too"),
        ({"window": 32, "rule": "momentum"}, "unknown rule 'momentum': expected sgd"),
        ({"suffix_blocks": 9}, "suffix_blocks is 9: tiny has 2 blocks"),
    ]:
        with pytest.raises(InputError, match=message):
            baseline(few, monkeypatch, **how)


def test_every_rule_that_needs_no_statistics_can_be_asked_for():
    known = {name for name, family in RULES.items() if not family.statistics}
    asked = get_type_hints(train_baseline.TrainBaselineConfig)["rule"]
    assert set(get_args(asked)) == set(FIRST_TRIES) == known


def test_a_plan_reads_the_most_chunks(few):
    lm = TransformerLM.from_pretrained("tiny")
    plan = partial(plan_chunks, lm, str(few), split="all", seed=0)
    longest = max(len(file.read_bytes()) for file in few.iterdir())
    # Ten lines in the longest file, six in the shortest: five of six, or three of eight and more.
    line = longest // 10
    assert plan(chunks=100, size=line, per_document=10)[:2] == (30, 6)
    assert plan(chunks=24, size=line, per_document=8)[:2] == (24, 8)
    assert plan(chunks=3, size=line, per_document=8)[:2] == (3, 3)


def test_where_no_number_can_be_computed_a_table_says_so_in_words(capsys):
    table = pd.DataFrame({"mean": [0.5, 0.25], "low": [np.nan, 0.125]})
    command.print_tables({"Title": table, "Whole": table[["mean"]]}, missing="one article only")
    said = capsys.readouterr().out
    assert "nan" not in said.lower() and "0.5000      –" in said
    assert said.count("–: one article only") == 1


def test_the_comparison_of_one_article_has_no_nan(tmp_path, monkeypatch, capsys):
    frame = pd.DataFrame(
        {
            "method": ["a"],
            "steps": 1.0,
            "target": np.nan,
            "test_loss": 2.0,
            "perplexity": 7.4,
            "uninformed_loss": 2.0,
            "model_flops": 9.0,
        }
    )
    losses = pd.DataFrame(
        {"method": ["uniform_k1", "uniform_k4"], "seed": 42, "document": "A", "loss": [2.0, 1.5]}
    )
    config = ComparisonConfig(methods=("uniform_k1", "uniform_k4"), seeds=(42,))
    result = Result(
        name="comparison", config={"seeds": [42]},
        tables={"methods": frame, "tests": significance.tests(config, losses)},
        scalars={"num_params": 1, "test_documents": 1}, meta={},
    )  # fmt: skip
    monkeypatch.setattr(files, "write_files", lambda *_: None)
    files.show(result, tmp_path)
    said = capsys.readouterr().out
    assert "nan" not in said.lower() and "here are 1 document and 1 seed" in said
