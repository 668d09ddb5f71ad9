"""The group of repositories on tiny shapes: what is measured of what, and not how fast."""

import dataclasses
import sys
from types import SimpleNamespace

import pytest

from ponderttt.bench import GROUPS, Options, repositories
from ponderttt.evaluation.flops import forward_flops, suffix_flops
from ponderttt.models.decoder.families import llama

TINY = repositories.Scale(llama.tiny(), units=16, length=4, window=16, suffix_blocks=1)


def test_seconds_of_reading_and_of_its_steps_are_held_against_the_forward(monkeypatch):
    asked = {"forward": 10.0, "states": 7.0, "update": 8.0, "skip": 4.0}

    def interleaved(measurements, *, repeats):
        assert set(measurements) == set(asked)
        assert all(measure() > 0 for measure in measurements.values())
        return asked

    monkeypatch.setattr(repositories, "interleaved", interleaved)
    reading, step = repositories.time_rows(TINY)
    assert (reading.value, step.value) == (15.0, 4.0)
    assert reading.ok and step.ok
    assert reading.ratio == 10 / 15 and reading.bar == 1 / 1.6
    assert step.ratio == 10 / 4 and step.bar == 1 / 0.5


def test_flops_of_a_step_are_held_against_the_forward():
    row = repositories.flops_row(repositories.READ)
    config = llama.smollm2_135m()
    share = suffix_flops(config, 2048, 4, unit=256).step / forward_flops(config, 2048)
    assert row.ratio == pytest.approx(1 / share) and row.bar == 2 and row.ok == (share <= 0.5)


def test_what_a_part_takes_follows_its_units_and_not_the_documents(monkeypatch):
    row = repositories.kept_row(TINY)
    assert row.ok and row.value > 0
    monkeypatch.setattr(repositories, "PART", 4)
    assert repositories._part_megabytes(TINY) < row.value


def test_a_process_says_its_peak(monkeypatch, capsys):
    monkeypatch.setattr(repositories, "MAPPED", TINY)
    monkeypatch.setattr(sys, "argv", ["repositories", "16"])
    repositories.main()
    assert float(capsys.readouterr().out) > 0


@pytest.mark.parametrize(("long", "ok"), [(104.0, True), (106.0, False)])
def test_a_process_may_not_grow_with_the_length(long, ok, monkeypatch):
    peaks = {"32": 100.0, "128": long}

    def run(command, **_):
        assert command[1:3] == ["-m", repositories.__name__]
        return SimpleNamespace(stdout=f"{peaks[command[3]]}\n")

    monkeypatch.setattr(repositories.subprocess, "run", run)
    row = repositories.process_row(32)
    assert row.ok is ok and row.value == long and "32 units: 100" in row.peer


def test_the_group_is_measured_by_its_name(monkeypatch):
    row = repositories.flops_row(repositories.READ)
    for name in ("time_rows", "flops_row", "kept_row", "process_row"):
        made = [row, row] if name == "time_rows" else row
        monkeypatch.setattr(repositories, name, lambda _, made=made: made)
    rows = GROUPS["repositories"](Options())
    assert len(rows) == 5 and all(dataclasses.is_dataclass(row) for row in rows)
