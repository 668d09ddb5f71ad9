"""Paths as users write them, and folders for one process at a time."""

from pathlib import Path

import pytest

from ponderttt.errors import InputError
from ponderttt.storage import alone_in, as_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--source is empty: expected a path"),
        ("  ", "--source is empty"),
        ("~nobody-of-this-name/x", "cannot be a path: "),
        ("a\0b", "cannot be a path: embedded null"),
        ("x" * 300, "cannot be a path: File name too long"),
        ("x/" * 3000, "cannot be a path: File name too long"),
    ],
)
def test_what_can_be_no_path_is_one_line(text, said):
    with pytest.raises(InputError, match=said) as caught:
        as_path(text, "--source")
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_a_path_is_taken_as_it_stands_and_need_not_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").touch()
    assert as_path("~/a b", "--out") == tmp_path / "a b"
    for text in (".", "a/b", str(tmp_path / "file" / "below"), "name\udce9"):
        assert as_path(text, "--out") == Path(text)


def test_a_folder_that_is_taken_says_so_at_once(tmp_path):
    with alone_in(tmp_path), pytest.raises(InputError, match="another process is at work in"):
        with alone_in(tmp_path):
            pass
    with alone_in(tmp_path), alone_in(tmp_path, lock=".other"):
        pass
