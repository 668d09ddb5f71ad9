import json

import pandas as pd
import pytest
from support.synthetic import baselines_result

from ponderttt import result as records
from ponderttt.errors import InputError
from ponderttt.result import Result


@pytest.fixture
def result():
    made = baselines_result(documents=2, units=3)
    return Result(made.name, made.config, made.tables, made.scalars, made.meta)


def test_a_record_gives_back_what_was_saved(result, tmp_path):
    digest = records.save(result, tmp_path)
    read = records.load(tmp_path)
    assert (read.name, read.config, read.scalars) == (result.name, result.config, result.scalars)
    assert read.tables.keys() == result.tables.keys()
    pd.testing.assert_frame_equal(read.tables["gains"], result.tables["gains"])
    first = read.tables["explorer"]["pieces"].iloc[0]
    assert list(first) == result.tables["explorer"]["pieces"].iloc[0]
    manifest = records.load_manifest(tmp_path)
    assert manifest["hash"] == digest
    assert manifest["meta"]["seconds"] == 12.5
    assert {"versions", "device", "commit"} <= manifest["meta"].keys()


def test_saving_again_replaces_the_record_and_leaves_nothing_behind(result, tmp_path):
    first = records.save(result, tmp_path)
    assert records.save(result, tmp_path) == first
    fewer = Result(result.name, result.config, {"gains": result.tables["gains"].head(3)})
    assert records.save(fewer, tmp_path) != first
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncate", "remove", "alter the manifest", "no JSON"])
def test_a_damaged_record_is_refused_by_name(result, tmp_path, damage):
    records.save(result, tmp_path)
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
        records.load(tmp_path)


def test_a_save_that_is_cut_short_leaves_the_old_record(result, tmp_path, monkeypatch):
    digest = records.save(result, tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "write_text", killed)
    shorter = {name: table.head(2) for name, table in result.tables.items()}
    with pytest.raises(KeyboardInterrupt):
        records.save(Result(result.name, result.config, shorter), tmp_path)
    assert records.load_manifest(tmp_path)["hash"] == digest


def test_the_manifest_is_json_and_names_every_table(result, tmp_path):
    records.save(result, tmp_path)
    tables = json.loads((tmp_path / records.MANIFEST).read_text())["tables"]
    assert {name: entry["rows"] for name, entry in tables.items()} == {
        name: len(table) for name, table in result.tables.items()
    }
