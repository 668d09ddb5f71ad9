"""Files that people write: each mistake is one line, and random bytes are nothing worse."""

import json
import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support import faults

from ponderttt.errors import InputError
from ponderttt.parsing import read_json, read_text, read_yaml

EXPECTED = "a list of things"


@pytest.mark.parametrize(
    ("read", "content", "said"),
    [
        (read_yaml, b"- 1\n- 2\n", r"holds \[1, 2\]: expected a list of things"),
        (read_yaml, b"tiny", "holds 'tiny'"),
        (read_yaml, b"7", "holds 7"),
        (read_yaml, b"units: [", "not valid YAML"),
        (read_yaml, b"a: 1\n\tb: 2\n", r"not valid YAML .*'\\t' that cannot start any token"),
        (read_yaml, b"seed: 0\nseed: 1\n", "line 2: the key 'seed' is there twice"),
        (read_yaml, b"a: &x [1]\nb: *x\n", r"line 2: \*x, a reference"),
        (read_yaml, b"on: 1\n", "the name True is no text to YAML .*put it in quotes"),
        (read_yaml, b"? [1]\n: 2\n", "not valid YAML"),
        (read_yaml, b'a: !!int ""\n', "not valid YAML"),
        (read_yaml, b"a: 2026-13-45\n", "not valid YAML"),
        (read_yaml, b"a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (read_yaml, b"a: 1\n---\nb: 2\n", "not valid YAML .*single document"),
        (read_yaml, b"a: " + b"[" * 5000, "nested too deeply"),
        (read_json, b"", "not valid JSON .*line 1"),
        (read_json, b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (read_json, b"[" * 100_000, "nested too deeply"),
        (read_json, b"1" * 5000, "not valid JSON"),
        (read_text, b"a\ncaf\xe9\n", r"is not UTF-8 \(line 2\): expected a list of things; save"),
        (read_text, "a: 1".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path, read, content, said):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read(path, EXPECTED)
    text = str(caught.value)
    assert str(path) in text and EXPECTED in text and "\n" not in text and len(text) < 600


def test_what_is_no_file_is_one_line(tmp_path):
    for path, said in (
        (tmp_path, "Is a directory"),
        (tmp_path / "absent", "No such file"),
        (tmp_path / "absent" / "below", "No such file"),
        ("a\0b", "null"),
        ("/dev/zero", "more than 256 MiB"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            read_text(path, EXPECTED)
        assert "\n" not in str(caught.value)
    unreadable = tmp_path / "unreadable"
    unreadable.touch(mode=0o000)
    if not os.access(unreadable, os.R_OK):  # the superuser reads all
        with pytest.raises(InputError, match="Permission denied"):
            read_text(unreadable, EXPECTED)


def test_what_is_written_well_is_read_as_it_stands(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"# nothing\n", b"\xef\xbb\xbf", b"{}"):
        path.write_bytes(content)
        assert read_yaml(path, EXPECTED) == {}
    path.write_bytes(b"\xef\xbb\xbfseed: 0\r\nsources: [a, b]\r\nname: 'on'\r\n")
    assert read_yaml(path, EXPECTED) == {"seed": 0, "sources": ["a", "b"], "name": "on"}
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, {"a": null}]}')
    assert read_json(path, EXPECTED) == {"a": [1, {"a": None}]}


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3)
)
yaml_texts = st.lists(
    st.sampled_from(
        ["a", "b: ", "- ", "[", "]", "{", "}", ",", "\n", "\t", " ", ":", "&x ", "*x", "!!int ",
         "!!float ", "!!bool ", "!!binary ", "!!timestamp ", "!!omap ", "!!set ", "!", "? ", "|",
         ">", "'", '"', "%", "@", "<<: ", "=", "~", "0x", "1e1", ".inf", "2026-13-01", "\0",
         "\ufeff", "1_0:99", "---\n", "...\n"]
    ),
    max_size=14,
).map(lambda parts: "".join(parts).encode())  # fmt: skip


@pytest.mark.faults
@pytest.mark.parametrize("read", [read_yaml, read_json, read_text])
@faults.examples(full=250, sample=40)
@given(content=st.binary(max_size=200) | yaml_texts | values.map(lambda x: json.dumps(x).encode()))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, read, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        read(path, EXPECTED)
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)


@pytest.mark.faults
@faults.examples(full=150, sample=20)
@given(value=st.dictionaries(st.text("abcdefgh", min_size=1), values, max_size=4))
def test_what_yaml_and_json_write_is_read_back(tmp_path, value):
    path = tmp_path / "file"
    path.write_text(json.dumps(value))
    assert repr(read_json(path, EXPECTED)) == repr(value)
    try:
        safe = yaml.safe_load(yaml.safe_dump(value))
    except (ValueError, yaml.YAMLError):  # a control character, which YAML cannot hold
        return
    path.write_text(yaml.safe_dump(value, allow_unicode=False))
    assert repr(read_yaml(path, EXPECTED)) == repr(safe)


@pytest.mark.parametrize("number", ["010", "1:30", "-1:30.5", "0_7"])
def test_numbers_to_other_bases_are_refused(tmp_path, number):
    file = tmp_path / "p.yaml"
    file.write_text(f"seed: {number}\n")
    with pytest.raises(InputError, match="is a number to base 8 or 60 to YAML"):
        read_yaml(file, "a mapping")
    for usual in ("0", "10", "0.5", "-3", "1.0e-3", "'010'"):
        file.write_text(f"seed: {usual}\n")
        read_yaml(file, "a mapping")
