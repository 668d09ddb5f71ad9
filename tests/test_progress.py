"""Progress in a file: one idiom, for loops and for work that calls back."""

import json

import pytest

from ponderttt import progress
from ponderttt.progress import ticker, track


@pytest.fixture
def progress_file(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    monkeypatch.setenv("PONDERTTT_PROGRESS", str(path))
    monkeypatch.setattr(progress, "SECONDS_APART", 0)
    return lambda: json.loads(path.read_text())


def test_a_loop_tells_how_many_items_are_done(progress_file):
    for i, item in enumerate(track("abc", "letters", 3)):
        assert item == "abc"[i]
        assert progress_file() == {"label": "letters", "done": i, "total": 3}
    assert progress_file()["done"] == 3


def test_many_items_are_not_as_many_files(progress_file, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_APART", 60)
    for _ in track(range(5), "steps", 5):
        assert progress_file()["done"] == 0
    assert progress_file()["done"] == 5


def test_a_callback_tells_the_same_and_a_call_too_many_does_no_harm(progress_file):
    tick = ticker("rollouts", 2)
    for done in (0, 1, 2, 2):
        assert progress_file() == {"label": "rollouts", "done": done, "total": 2}
        tick()


def test_without_a_file_it_is_a_bar_on_standard_error(capsys, monkeypatch):
    monkeypatch.delenv("PONDERTTT_PROGRESS", raising=False)
    tick = ticker("rollouts", 2)
    tick()
    tick()
    said = capsys.readouterr()
    assert "rollouts" in said.err and not said.out
