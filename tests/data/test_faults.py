"""Whatever bytes, names, nestings and JSON a user's files hold: documents, or one `InputError`."""

import bz2
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faults import examples

from ponderttt.data import readers
from ponderttt.data.clean import OWN_MIN_CHARACTERS, clean_texts
from ponderttt.data.documents import CodeDataset, load_documents
from ponderttt.data.folders import walk
from ponderttt.data.language_files import cut_articles, read_language
from ponderttt.data.notebook import notebook_text
from ponderttt.data.sources import SPLITS, describe, open_table
from ponderttt.data.text import NotText, decode_text, plain, printable
from ponderttt.data.tokenizer import get_tokenizer
from ponderttt.data.wikipedia import plain_text
from ponderttt.errors import InputError

pytestmark = pytest.mark.faults

ENDINGS = [b"", b".py", b".txt", b".ipynb", b".csv", b".hs", b".bin", b".PY", b".tokens", b"."]
NAMES = st.one_of(
    st.sampled_from([b"train", b"test", b"Val", b"validation", b"dev", b"tests", b"vendor", b".h"]),
    st.binary(min_size=1, max_size=40),
    st.builds(
        lambda stem, ending: stem + ending, st.binary(min_size=1, max_size=8),
        st.sampled_from(ENDINGS),
    ),
).filter(lambda name: not {b"/", b"\0"} & {name[i : i + 1] for i in range(len(name))}
         and name not in (b".", b".."))  # fmt: skip
WORDS = st.text("abcdefg =\n\r\ufeff#\"'{}()é漢", min_size=OWN_MIN_CHARACTERS, max_size=400)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["cells", "worksheets", "source", "input", "cell_type", "code", "markdown", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
CELLS = st.fixed_dictionaries(
    {
        "cell_type": st.sampled_from(["code", "markdown", "raw", "heading"]) | JSON,
        "source": st.text(max_size=300) | st.lists(st.text(max_size=60), max_size=4) | JSON,
    }
)
NOTEBOOKS = (JSON | st.fixed_dictionaries({"cells": st.lists(CELLS, max_size=4) | JSON})).map(
    json.dumps
)
BYTES = st.one_of(
    st.binary(max_size=600),
    WORDS.map(str.encode),
    WORDS.map(lambda text: text.encode("utf-16")),
    WORDS.map(lambda text: text.encode("latin-1", "replace")),
    NOTEBOOKS.map(str.encode),
)
ENTRIES = st.tuples(
    st.lists(NAMES, min_size=1, max_size=4),
    BYTES | st.sampled_from(["folder", "loop", "broken", "up", "pipe", "self"]),
)
TREES = st.lists(ENTRIES, max_size=8)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PONDERTTT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def tokenizer():
    return get_tokenizer("bytes")


def plant(root: bytes, tree) -> None:
    """Make what can be made of `tree`: a name may be taken by a file where it asks for a folder."""
    links = {"broken": b"nowhere", "up": b"..", "self": None}
    for parts, content in tree:
        path = os.path.join(root, *parts)
        inside = (os.path.realpath(path) + b"/").startswith(os.path.realpath(root) + b"/")
        if not inside or os.path.lexists(path):  # a link leads out, or a pipe would wait
            continue
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if isinstance(content, bytes):
                Path(os.fsdecode(path)).write_bytes(content)
            elif content == "folder":
                os.makedirs(path, exist_ok=True)
            elif content == "pipe":
                os.mkfifo(path)
            else:
                os.symlink(links.get(content, root) or path, path)
        except OSError:
            continue


def one_line(error: InputError) -> None:
    assert "\n" not in str(error) and str(error).encode()


def well_formed(text: str) -> None:
    assert text.encode() and not {"\r", "\0", "\ufeff"} & set(text)


@examples(500, 50)
@given(TREES)
def test_any_folder_is_read_or_refused_in_one_line(tokenizer, tree):
    root = tempfile.mkdtemp()
    try:
        plant(os.fsencode(root), tree)
        every = walk(Path(root))
        table, record = open_table(root)
        rows = [table.column(name).to_pylist() for name in ("path", "text", "split")]
        assert len(set(rows[0])) == len(rows[0]) == sum(record["kept"].values())
        assert len(rows[0]) + sum(record["dropped"].values()) == len(every)
        assert set(rows[2]) <= set(SPLITS) and describe(record)
        for path, text in zip(*rows[:2], strict=True):
            well_formed(text)
            assert path.encode() and "\n" not in path
        texts = CodeDataset(tokenizer, "all", 16, source=root)
        assert sorted(texts.paths) == sorted(rows[0]) and all(len(ids) for ids in texts)
        load_documents(root, tokenizer, split="test", unit=8, units=2)
    except InputError as error:
        one_line(error)
    finally:
        shutil.rmtree(root)


@examples(300, 50)
@given(NAMES, BYTES)
def test_any_single_file_is_the_test_split_or_refused_in_one_line(name, content):
    with tempfile.TemporaryDirectory() as root:
        path = Path(root, os.fsdecode(name))
        path.write_bytes(content)
        try:
            table, record = open_table(path)
        except InputError as error:
            one_line(error)
        else:
            assert record["kept"] == {"train": 0, "validation": 0, "test": 1}
            assert table.column("path").to_pylist() == [printable(path.name)]


@examples(400, 50)
@given(NOTEBOOKS | st.text(max_size=80) | st.integers(1, 10**5).map(lambda n: "[" * n))
def test_any_json_is_a_notebook_or_not_text(content):
    try:
        text = notebook_text(content)
    except NotText as reason:
        assert str(reason) in ("not a notebook", "not UTF-8", "binary")
    else:
        well_formed(text + "x")


@examples(400, 50)
@given(BYTES)
def test_any_bytes_are_text_or_not(data):
    try:
        text = decode_text(data)
    except NotText as reason:
        assert str(reason) in ("not UTF-8", "binary")
    else:
        well_formed(text + "x")


@examples(300, 50)
@given(st.lists(st.text("ab \n\r\ufeff", max_size=40), max_size=6))
def test_line_ends_and_marks_change_nothing(lines):
    clean = "\n".join(lines).replace("\r", "").replace("\ufeff", "")
    for end in ("\r\n", "\r", "\n"):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            assert decode_text(clean.replace("\n", end).encode(encoding)) == clean


@examples(200, 50)
@given(st.lists(NAMES, min_size=2, max_size=4, unique=True))
def test_names_are_printed_each_in_its_own_way(names):
    shown = [printable(os.fsdecode(name)) for name in names]
    assert len(set(shown)) == len(names)
    assert all(name.encode() and len(name.splitlines()) <= 1 for name in shown)


LINES = st.lists(
    st.sampled_from(
        [" \n", "\n", " = A = \n", "= A =\n", "= A (2) =\r\n", " = = S = = \n", "= = S = =\n",
         " words , words . \n", "\ufeff", "words\r", " = 1 + <unk> = \n", "= \n", "=="]
    ),
    max_size=20,
).map("".join)  # fmt: skip


@examples(300, 50)
@given(
    st.sampled_from(["wiki.{}.tokens", "{}.txt", "ptb.{}.txt"]),
    st.dictionaries(st.sampled_from(["train", "valid", "val", "dev", "test"]),
                    LINES.map(str.encode) | BYTES, max_size=4),
)  # fmt: skip
def test_any_files_of_language_are_articles_or_refused_in_one_line(layout, files):
    with tempfile.TemporaryDirectory() as root:
        for name, content in files.items():
            Path(root, layout.format(name)).write_bytes(content)
        try:
            splits, _ = read_language(root)
        except InputError as error:
            one_line(error)
            return
    for found in splits.values():
        assert found and len({article.title for article in found}) == len(found)
        for article in found:
            well_formed(article.text)


@examples(200, 50)
@given(LINES)
def test_articles_are_all_of_a_text(text):
    text = plain(text)
    assert "".join(a.text for a in cut_articles(text, "x")).strip() == text.strip()


MARKUP = st.lists(
    st.sampled_from(["[[", "]]", "{{", "}}", "|", "==", "'''", "<ref>", "</ref>", "<br/>", "\n",
                     "&#xd800;", "&#99999999999;", "&nbsp;", "&x;", "{|", "|}", "[http://a b]",
                     "{{convert|5}}", "<li>", "<math>", "References", "word "])
    | st.text(max_size=10),
    max_size=20,
).map("".join)  # fmt: skip


@examples(300, 50)
@given(MARKUP)
def test_any_markup_is_prose(markup):
    kept, _ = clean_texts([readers.Text(plain_text(markup), "t", "prose")], min_characters=1)
    for text in kept:
        well_formed(text.text + "x")


XML = st.lists(
    st.sampled_from(["<mediawiki xmlns='u'>", "</mediawiki>", "<page>", "</page>", "<ns>0</ns>",
                     "<title>T</title>", "<text>w", "</text>", "<redirect/>", "&amp;", "&x;"]),
    max_size=12,
).map(lambda parts: "".join(parts).encode())  # fmt: skip


@examples(200, 50)
@given(
    st.binary(max_size=200) | XML.map(bz2.compress) | XML.map(bz2.compress).map(lambda b: b[:-5])
)
def test_a_damaged_dump_is_refused_in_one_line(data):
    refused_or_read(readers.read_wikipedia, data)


@examples(200, 50)
@given(
    st.binary(max_size=80)
    | NOTEBOOKS.map(str.encode)
    | st.dictionaries(
        st.text(max_size=5), st.fixed_dictionaries({"extract": JSON}) | JSON, max_size=3
    ).map(lambda found: json.dumps(found).encode())
)
def test_damaged_leads_are_refused_in_one_line(data):
    refused_or_read(readers.read_leads, data)


def refused_or_read(read, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        Path(root, "file").write_bytes(data)
        patch.setattr(readers, "wheel_path", lambda *_: Path(root, "file"))
        try:
            kept, _ = clean_texts(read(), min_characters=1)
        except InputError as error:
            one_line(error)
            assert "reinstall" in str(error)
            return
        assert all(text.text.encode() and text.path.encode() is not None for text in kept)


@examples(100, 20)
@given(
    JSON.map(json.dumps)
    | st.dictionaries(
        st.sampled_from(["sha256", "origin", "kept", "dropped", "versions", "split_by"]), JSON
    ).map(json.dumps)
    | st.text(max_size=30)
)
def test_any_manifest_but_its_own_is_refused(content):
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PONDERTTT_CACHE", root)
        file = Path(root, "poem.txt")
        file.write_text("a line that is a line\n" * 9)
        open_table(file)
        [manifest] = Path(root, "sources").glob("*.json")
        manifest.write_text(content)
        with pytest.raises(InputError, match="delete .* and run again"):
            open_table(file)
