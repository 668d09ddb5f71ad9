"""A user's own folder is read whole: its splits, its links, its names; and what is left out."""

import json
import os
import random

import pytest

from ponderttt.data import create_data_iterator, folders, get_tokenizer, load_documents
from ponderttt.data.clean import RawFile, clean_texts
from ponderttt.data.documents import CodeDataset
from ponderttt.data.folders import FEW, READ_HERE, own_splits
from ponderttt.data.kinds import DATA_ENDINGS, kind_of
from ponderttt.data.notebook import notebook_text
from ponderttt.data.sources import describe, open_source, split_of
from ponderttt.data.text import NotText, decode_text, printable
from ponderttt.errors import InputError
from ponderttt.prepare.inputs import _check_language, _check_source


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def words(seed: int, lines: int = 20) -> str:
    draw = random.Random(seed)
    return "".join(f"value_{draw.randrange(10**9):09d} = compute()\n" for _ in range(lines))


def write(root, *names: str | bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", newline="") as file:
            file.write(words(len(path) + sum(path)))


def rows(root) -> dict[str, str]:
    dataset, _ = open_source(root)
    return dict(zip(dataset["path"], dataset["split"], strict=True))


def dropped(root) -> dict[str, int]:
    return open_source(root)[1]["dropped"]


# --- splits


def test_rules_made_for_packages_do_not_hold_for_a_users_folder(root):
    names = ["tests/a.py", "vendor/b.py", "test_00.txt", "x_test.py", "conftest.py",
             "node_modules/c.js", "third_party/d/e.go", "site-packages/f.py"]  # fmt: skip
    write(root, *names)
    assert set(rows(root)) == set(names) and dropped(root) == {}


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev", "Val"])
@pytest.mark.parametrize("above", ["", "data/"])
def test_split_folders_are_the_splits(root, validation, above):
    write(root, f"{above}train/a.txt", f"{above}train/test_b.txt", f"{above}train/c/test/d.txt")
    write(root, f"{above}{validation}/e.txt", f"{above}test/f.txt")
    assert rows(root) == {
        f"{above}{path}": split
        for path, split in {
            "train/a.txt": "train", "train/test_b.txt": "train", "train/c/test/d.txt": "train",
            f"{validation}/e.txt": "validation", "test/f.txt": "test",
        }.items()
    }  # fmt: skip


def test_what_is_beside_split_folders_is_counted(root):
    write(root, "train/a.txt", "test/b.txt", "notes.md", "more/c.txt")
    assert rows(root) == {"train/a.txt": "train", "test/b.txt": "test"}
    assert dropped(root) == {"beside the split folders": 2}


def test_splits_are_found_wherever_they_stand_side_by_side(root):
    write(
        root, "README.md", "data/train/a.txt", "data/test/b.txt", "de/train/c.txt", "de/dev/d.txt"
    )
    assert rows(root) == {
        "data/train/a.txt": "train", "data/test/b.txt": "test", "de/train/c.txt": "train",
        "de/dev/d.txt": "validation",
    }  # fmt: skip
    assert dropped(root) == {"beside the split folders": 1}


def test_a_project_with_folders_of_such_names_is_read_whole():
    project = [f"src/{i:02d}.py" for i in range(30)]
    assert own_splits([*project, "train/loop.py", "test/test_a.py"])[0] is None


@pytest.mark.parametrize(
    "names", [["train.txt", "validation.txt"], ["train-00000-of-00002.txt", "val_01.txt"]]
)
def test_a_file_beside_files_that_are_splits_is_not_read_as_one(root, names):
    write(root, "README.md", *names)
    assert list(rows(root).values()) == ["train", "validation"]


def test_files_named_as_splits_are_the_splits(root):
    write(root, "wiki.train.tokens", "wiki.valid.tokens", "test.txt")
    assert list(rows(root).values()) == ["test", "train", "validation"]


@pytest.mark.parametrize(
    "names", [["src/a.py", "test/b.py"], ["src/a.py", "test/b.py", "dev/c.py"],
              ["train.py", "test.py", "model.py"], ["train.txt", "notes.txt"]],
)  # fmt: skip
def test_a_folder_called_test_makes_no_splits_of_a_project(names):
    many = [f"src/{i:02d}.py" for i in range(FEW)]
    assert own_splits(names)[0] == ["test"] * len(names)
    assert own_splits([*many, *names]) == (None, "by the hash of each name")


def test_few_texts_are_all_test_and_many_go_by_their_names(root):
    write(root, *(f"a{i}.py" for i in range(5)))
    assert set(rows(root).values()) == {"test"}
    assert "under 20 texts and no split folders: all are test" in describe(open_source(root)[1])
    write(root, *(f"b{i}.py" for i in range(40)))
    found = rows(root)
    assert found == {path: split_of(path, (80, 10, 10)) for path in found}


def test_a_file_that_is_named_is_read_whatever_its_ending(root):
    write(root, "a.jsonl")
    assert rows(root / "a.jsonl") == {"a.jsonl": "test"}


def test_one_file_is_the_test_split_whatever_it_is_called(root):
    write(root, "train.txt")
    assert rows(root / "train.txt") == {"train.txt": "test"}
    tokenizer = get_tokenizer("bytes")
    corpus = load_documents(root / "train.txt", tokenizer, split="test", unit=8, units=4)
    assert len(corpus) == 1


def test_a_split_without_documents_says_what_to_do_with_options_that_exist(root):
    write(root, *(f"a{i}.py" for i in range(5)))
    tokenizer = get_tokenizer("bytes")
    for read in (
        lambda: load_documents(root, tokenizer, split="train", unit=8, units=4),
        lambda: create_data_iterator(tokenizer, "train", 2, 8, 4, source=root),
    ):
        with pytest.raises(InputError, match="has no train document: files: train 0") as error:
            read()
        assert "--split all" in str(error.value) and "train, validation and test" in str(
            error.value
        )
    assert len(CodeDataset(tokenizer, "all", 8, source=root)) == 5
    with pytest.raises(InputError, match=r"the longest has 560 tokens; .*files: train 0"):
        load_documents(root, tokenizer, split="test", unit=900, units=1, min_units=1)


# --- endings


def test_any_ending_that_holds_text_is_read_and_data_is_counted_by_its_ending(root):
    names = ["Main.hs", "index.php", "App.jsx", "App.tsx", "a.rb", "A.java", "a.c", "a.rs", "a.lua",
             "README", "b.unheard_of", "Makefile", "A.PY"]  # fmt: skip
    write(root, *names, "a.csv", "b.json", "c.JSON")
    assert set(rows(root)) == set(names)
    assert dropped(root) == {"data (.csv)": 1, "data (.json)": 2}


def test_a_folder_without_text_says_what_is_there_and_what_is_read(root):
    write(root, "a.csv", "b.csv")
    (root / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with pytest.raises(InputError, match=r"data \(.csv\) 2") as error:
        open_source(root)
    message = str(error.value)
    assert READ_HERE in message and "binary 1" in message and "\n" not in message
    assert ".ipynb" in READ_HERE and "as .txt" in READ_HERE and ".csv" in READ_HERE


def test_kinds_of_files():
    assert [kind_of(name) for name in ("a.hs", "a.PHP", "b.jsx", "LICENSE", "x.tar.json")] == [
        "haskell", "php", "javascript", "text", ""
    ]  # fmt: skip
    assert all(kind_of("x" + ending) == "" for ending in DATA_ENDINGS)


@pytest.mark.parametrize(
    ("language", "notice"),
    [("haskell", "-- Copyright 2020 A\n"), ("lua", "-- Copyright 2020 A\n"),
     ("lisp", ";; Copyright 2020 A\n"), ("ocaml", "(* Copyright 2020 A *)\n"),
     ("html", "<!-- Copyright 2020 A -->\n"), ("php", "/* Copyright 2020 A */\n"),
     ("matlab", "% Copyright 2020 A\n"), ("perl", "# Copyright 2020 A\n")],
)  # fmt: skip
def test_a_notice_goes_in_every_style_of_comments(language, notice):
    code = words(1)
    [[text, _, _]], _ = clean_texts([RawFile((notice + code).encode(), "a", language)], own=True)
    assert text == code


def test_numbers_under_an_unknown_ending_are_data(root):
    (root / "a.dat").write_text("1 2 3 4 5\n" * 50)
    write(root, "b.dat")
    assert set(rows(root)) == {"b.dat"} and dropped(root) == {"data, not text": 1}


def test_books_are_read_and_packages_limits_do_not_hold(root):
    lines = words(3, 12_000) + "# Copied from elsewhere\n"
    (root / "book.txt").write_text(lines)
    (root / "code.py").write_text(
        "\n".join(lines.splitlines()[::3]).upper() + "\n# Copied from x\n"
    )
    assert len(lines) > 300_000 and set(rows(root)) == {"book.txt", "code.py"}


# --- notebooks


CELLS = [
    {"cell_type": "markdown", "source": ["# Title\n", "words"]},
    {"cell_type": "code", "source": "x = 1\r\nx\n", "outputs": [{"text": "OUTPUT"}]},
    {"cell_type": "raw", "source": "RAW"},
    {"cell_type": "code", "source": []},
]


def test_the_cells_of_a_notebook_are_read_and_its_outputs_are_not(root):
    text = notebook_text(json.dumps({"cells": CELLS, "metadata": {"x": "META"}}))
    assert text == "# Title\nwords\n\nx = 1\nx\n"
    old = [{"cell_type": "code", "input": "y = 2"}]
    assert notebook_text(json.dumps({"worksheets": [{"cells": old}]})) == "y = 2\n"
    long = [*CELLS, {"cell_type": "code", "source": words(1)}]
    (root / "a.ipynb").write_text(json.dumps({"cells": long}))
    for name, content in {"b": "[]", "c": "{", "d": '{"cells": 3}', "e": "[" * 99_999}.items():
        (root / f"{name}.ipynb").write_text(content)
    assert set(rows(root)) == {"a.ipynb"} and dropped(root) == {"not a notebook": 4}
    dataset, _ = open_source(root)
    assert dataset["text"][0] == text + "\n" + words(1) and "OUTPUT" not in dataset["text"][0]


# --- one decoder


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.py", "a.txt", "a.hs", "a"])
def test_a_text_is_the_same_whatever_its_line_ends_and_marks(root, name, end, encoding):
    mark = "\ufeff" if encoding.endswith("e") else ""
    content = "# Copyright 2020 A. Author\n\n" + words(1) if name == "a.py" else words(1)
    (root / name).write_bytes((mark + content.replace("\n", end)).encode(encoding))
    dataset, _ = open_source(root)
    assert dataset["text"][:] == [words(1)]


def test_no_byte_order_mark_is_read_where_files_were_joined():
    assert decode_text("a\ufeffb\ufeff\n".encode()) == "ab\n"
    assert decode_text("\ufeffa\ufeffb".encode(), inner_marks=True) == "a\ufeffb"


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"abc\0", "binary"), (b"caf\xe9", "not UTF-8"), (b"\xff\xfe" * 300, "not UTF-8"),
     ("abc".encode("utf-16-le"), "binary"), (b"\xff\xfea", "not UTF-8")],
)  # fmt: skip
def test_what_is_no_text_says_why(data, reason):
    with pytest.raises(NotText, match=reason):
        decode_text(data)


def test_every_reason_is_counted(root, monkeypatch):
    write(root, "a.py", ".hidden.py", ".git/b.py")
    (root / "copy.py").write_text((root / "a.py").read_text())
    (root / "short.py").write_text("x = 1\n")
    (root / "latin.py").write_bytes(words(5).encode() + b"\xe9")
    (root / "huge.txt").write_bytes(b"a b c d e\n" * 2_000_001)
    os.mkfifo(root / "pipe.py")  # to read it would take for ever
    assert set(rows(root)) == {"a.py"}
    assert dropped(root) == {
        "copy": 1, "hidden": 2, "neither file nor folder": 1, "not UTF-8": 1, "over 20 MB": 1,
        "under 100 characters": 1,
    }  # fmt: skip


def test_what_cannot_be_opened_is_counted(root, monkeypatch):
    write(root, "a.py", "b.py", "c/d.py")

    def refuse(found):
        if found.path == "b.py":
            raise PermissionError(13, "denied")
        return read(found)

    read, entries = folders._bytes_of, folders._entries
    monkeypatch.setattr(folders, "_bytes_of", refuse)
    monkeypatch.setattr(folders, "_entries", lambda f: [None] if f.name == "c" else entries(f))
    assert set(rows(root)) == {"a.py"}
    assert dropped(root) == {"unreadable": 1, "unreadable folder": 1}


# --- links


def test_links_are_followed_and_loops_end(root, tmp_path):
    write(tmp_path, "elsewhere/deep/a.py", "elsewhere/b.py", "one.py")
    write(root, "c/d.py")
    os.symlink(tmp_path / "elsewhere", root / "linked")
    os.symlink(tmp_path / "elsewhere", root / "z_again")
    os.symlink(tmp_path / "one.py", root / "one.py")
    os.symlink("..", root / "c" / "up")
    os.symlink(tmp_path, root / "above")
    os.symlink(root / "c", root / "b_inner")
    os.symlink("self.py", root / "self.py")
    os.symlink("nowhere", root / "gone.py")
    assert set(rows(root)) == {"c/d.py", "one.py", "linked/b.py", "linked/deep/a.py"}
    assert dropped(root) == {"broken link": 2, "link to a folder that is read anyway": 4}


def test_a_folder_that_is_a_link_is_read(root, tmp_path):
    write(root, "a.py")
    os.symlink(root, tmp_path / "link")
    assert rows(tmp_path / "link") == {"a.py": "test"}


# --- names


NAMES = [b"caf\xe9.py", "café.py".encode(), b"caf\\xe9.py", b"new\nline.py", "\u2028.py".encode()]


def test_names_are_bytes_with_a_printable_form(root):
    write(root, *NAMES, b"\xff\xfe/\xe9.py")
    expected = {"caf\\xe9.py", "café.py", "caf\\\\xe9.py", "new\\nline.py", "\\u2028.py",
                "\\xff\\xfe/\\xe9.py"}  # fmt: skip
    assert set(rows(root)) == expected
    corpus = load_documents(root, get_tokenizer("bytes"), split="test", unit=8, units=4)
    assert set(corpus.paths) == expected


def test_a_source_whose_own_name_is_not_utf8_is_read_and_refused_in_print(root):
    place = root / os.fsdecode(b"caf\xe9\n" + b"x" * 240)
    place.mkdir()
    with pytest.raises(InputError, match="no usable text") as error:
        open_source(place)
    assert str(error.value).encode() and "\n" not in str(error.value)
    write(place, *(f"{i}.py" for i in range(5)))
    corpus = load_documents(place, get_tokenizer("bytes"), split="test", unit=8, units=4)
    assert corpus.source == printable(place) and corpus.source.encode()
    assert json.dumps(corpus.record).isascii()


# --- paths


@pytest.mark.parametrize("source", ["", "  ", "a\0b", "~nobody_is_called_so/x", "x" * 5000])
def test_what_cannot_be_a_path_is_refused(source):
    for check in (open_source, _check_source, _check_language):
        with pytest.raises(InputError) as error:
            check(source)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_the_home_folder_is_found(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    write(root, "mine/a.py")
    assert rows("~/mine") == {"a.py": "test"}
