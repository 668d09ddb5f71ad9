import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import faults
from support.synthetic import baselines_result

from ponderttt import cache
from ponderttt import result as records
from ponderttt.errors import InputError
from ponderttt.result import Result


@pytest.fixture
def result():
    return baselines_result(documents=2, units=3)


def test_a_record_gives_back_what_was_saved(result, tmp_path):
    digest = result.save(tmp_path)
    read = Result.load(tmp_path)
    assert (read.name, read.config, read.scalars) == (result.name, result.config, result.scalars)
    assert read.tables.keys() == result.tables.keys()
    pd.testing.assert_frame_equal(read.tables["gains"], result.tables["gains"])
    first = read.tables["explorer"]["pieces"].iloc[0]
    assert list(first) == result.tables["explorer"]["pieces"].iloc[0]
    manifest = Result.verify(tmp_path)
    assert manifest["hash"] == digest
    assert manifest["meta"]["seconds"] == 12.5
    assert {"versions", "device", "commit", "cached", "compilation"} <= manifest["meta"].keys()


def test_a_record_says_what_was_taken_from_the_cache(result, tmp_path, monkeypatch):
    origin = cache.Origin("abc", 2.5)
    monkeypatch.setattr(cache, "_taken", {tmp_path / "a": origin, tmp_path / "b": None})
    result.save(tmp_path / "record")
    said = Result.load(tmp_path / "record").meta["cached"]
    assert said == {"values": 1, "seconds": 2.5, "commits": ["abc"]}


def test_a_result_that_was_read_keeps_the_meta_of_the_run_that_computed_it(
    result, tmp_path, monkeypatch
):
    result.save(tmp_path / "one")
    manifest = Result.verify(tmp_path / "one")
    monkeypatch.setattr(records, "environment", lambda: {"versions": {}, "commit": "another"})
    Result.load(tmp_path / "one").save(tmp_path / "two")
    assert Result.verify(tmp_path / "two") == manifest


def test_a_result_shows_its_tables_with_their_rows_and_meanings(result):
    lines = result._repr_markdown_().splitlines()
    assert lines[0] == "**baselines**"
    assert len(lines) == 4 + len(result.tables)
    rows = len(result.tables["units"])
    assert f"| `units` | {rows:,} | a unit \\| an action |" in lines


def test_saving_says_what_was_written(result, tmp_path):
    saved = result.save(tmp_path)
    rows = sum(map(len, result.tables.values()))
    assert f"`baselines` is written: {len(result.tables)} tables with {rows:,} rows" in (
        saved._repr_markdown_()
    )
    assert saved == Result.verify(tmp_path)["hash"] and repr(saved) == repr(str(saved))


def test_saving_again_replaces_the_record_and_leaves_nothing_behind(result, tmp_path):
    first = result.save(tmp_path)
    assert result.save(tmp_path) == first
    fewer = Result(result.name, result.config, {"gains": result.tables["gains"].head(3)})
    assert fewer.save(tmp_path) != first
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncate", "remove", "alter the manifest", "no JSON"])
def test_a_damaged_record_is_refused_by_name(result, tmp_path, damage):
    result.save(tmp_path)
    table, manifest = next(tmp_path.glob("units-*.parquet")), tmp_path / records.MANIFEST
    if damage == "truncate":
        table.write_bytes(table.read_bytes()[:-100])
    elif damage == "remove":
        table.unlink()
    elif damage == "alter the manifest":
        manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    else:
        manifest.write_text("{")
    with pytest.raises(InputError, match=r"record.*run its notebook again"):
        Result.load(tmp_path)


def test_a_save_that_is_cut_short_leaves_the_old_record(result, tmp_path, monkeypatch):
    digest = result.save(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "write_text", killed)
    shorter = {name: table.head(2) for name, table in result.tables.items()}
    with pytest.raises(KeyboardInterrupt):
        Result(result.name, result.config, shorter).save(tmp_path)
    assert Result.verify(tmp_path)["hash"] == digest


def test_the_manifest_is_json_and_names_every_table(result, tmp_path):
    result.save(tmp_path)
    tables = json.loads((tmp_path / records.MANIFEST).read_text())["tables"]
    assert {name: entry["rows"] for name, entry in tables.items()} == {
        name: len(table) for name, table in result.tables.items()
    }


@pytest.mark.parametrize(
    "content",
    ["", "[]", "7", "{}", '{"hash": "x", "tables": []}', "[" * 50_000, '{"a": 1, "a": 2}'],
)
def test_a_manifest_of_another_form_is_one_line(result, tmp_path, content):
    result.save(tmp_path)
    (tmp_path / records.MANIFEST).write_text(content)
    with pytest.raises(InputError, match=r"record.*run its notebook again") as error:
        Result.load(tmp_path)
    assert "\n" not in str(error.value)


parts = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=3), x, max_size=2),
    max_leaves=4,
)


@pytest.mark.faults
@faults.examples(full=150, sample=20)
@given(
    key=st.sampled_from(["name", "config", "tables", "scalars", "meta", "meanings", "hash", "x"]),
    value=parts | st.fixed_dictionaries({"units": parts}),
)
def test_an_altered_manifest_with_its_hash_is_a_record_or_one_line(tmp_path, key, value):
    baselines_result(documents=1, units=2).save(tmp_path)
    record = json.loads((tmp_path / records.MANIFEST).read_text()) | {key: value}
    if key != "hash":
        record["hash"] = records._hash(record)
    (tmp_path / records.MANIFEST).write_text(json.dumps(record))
    try:
        Result.load(tmp_path)
    except InputError as error:
        assert "\n" not in str(error)
