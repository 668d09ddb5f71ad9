"""The status table: seconds are those of computing, whoever computed."""

import dataclasses
import json

import pytest
from support.synthetic import baselines_result

from ponderttt import cache
from ponderttt.report.batch import pages
from ponderttt.report.book import status


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    taken = {tmp_path / str(i): cache.Origin("abcdef0123456", 1000.0) for i in range(3)}
    monkeypatch.setattr(cache, "_taken", taken)
    folder = tmp_path / "baselines"
    record = baselines_result(documents=1, units=2).save(folder)
    page = pages.Page(
        "baselines", "cpu", pages.PASS, 126.4, "", "", record, rendered="fedcba98765432"
    )
    path = folder / pages.MANIFEST
    path.write_text(json.dumps(dataclasses.asdict(page)))
    return path


def test_seconds_are_of_the_run_and_of_what_it_took_from_the_cache(manifest):
    assert " 3,126 |" in status.overview([manifest])
    said = status.details(manifest)
    assert "3 values, computed in 3,000 s at `abcdef0123`; the run itself took 126 s" in said
    assert "Rendered from the record at `fedcba9876`" in said


def test_a_record_without_such_accounts_is_marked(manifest):
    record = manifest.with_name("record.json")
    content = json.loads(record.read_text())
    del content["meta"]["cached"]
    record.write_text(json.dumps(content))
    assert " ≥ 126 |" in status.overview([manifest])
    assert "Of the cache" not in status.details(manifest)
