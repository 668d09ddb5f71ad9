"""The Stack and WikiText from a hub on the loopback: text is read whole, or one line says why."""

import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hub_server import COMMIT, hub, python

STACK, API = "bigcode/the-stack-dedup", "/api/datasets/bigcode/the-stack-dedup"
BATCHES = """
import json, sys
import numpy as np
from ponderttt.data import create_data_iterator, get_tokenizer, hub, readers
from ponderttt.errors import InputError

hub.PATIENCE = 3
hub.TIMEOUT = readers.TIMEOUT = 1

def batches(**processes):
    return create_data_iterator(
        get_tokenizer("bytes"), "train", batch_size=4, seq_length=64, chunk_size=32,
        source="the-stack", seed=1, **processes,
    )

def rows(iterator):
    return [batch["labels"].tolist() for batch in iterator]

try:
    whole = batches()
    first = [next(whole)["labels"].tolist() for _ in range(3)]
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = batches()
    resumed.load_state_dict(state)
    print(json.dumps({
        "whole": first + rows(whole), "resumed": first + rows(resumed),
        "processes": [rows(batches(process_index=i, process_count=2)) for i in (0, 1)],
        "record": whole.dataset.record,
    }))
except InputError as error:
    sys.exit(f"error: {error}")
"""


def parquet(rows):
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), content)
    return content.getvalue()


def code(number):
    lines = [f"value_{number}_{j} = compute(of={number * j}, name={j % 7})" for j in range(30)]
    return {
        "content": "\n".join(lines), "max_stars_repo_name": f"owner/repository{number % 9}",
        "max_stars_repo_path": f"src/file{number}.py",
    }  # fmt: skip


FILES = {
    f"data/python/train-{i:05d}-of-00002.parquet": parquet(
        [code(n) for n in range(40 * i, 40 * i + 40)]
    )
    for i in (0, 1)
} | {"README.md": b"# The Stack\n"}


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    def run(script, files, faults, repository=STACK):
        monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path / "cache"))
        with hub(files, faults, repository=repository) as server:
            return python(script, server.url, tmp_path / "home")

    return run


def refused(done):
    assert done.returncode == 1 and done.stdout == "", done.stderr
    return next(line for line in done.stderr.splitlines() if line.startswith("error: "))


def test_the_stack_is_read_through_cuts_and_waits_resumed_and_divided(fetch):
    done = fetch(BATCHES, FILES, {API: [429], "00001-of-00002.parquet": ["cut", "none", 429]})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["record"]["versions"]["bigcode/the-stack-dedup"] == COMMIT
    assert found["record"]["kept"]["train"] >= 40 and not found["record"]["dropped"]
    assert found["resumed"] == found["whole"] and len(found["whole"]) >= 10
    # The processes' rows, side by side, are the batches that a single one reads.
    assert [a + b for a, b in zip(*found["processes"], strict=True)] == found["whole"]
    rows = [tuple(row) for batch in found["whole"] for row in batch if any(row)]
    assert len(set(rows)) == len(rows) == found["record"]["kept"]["train"]


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({API: [401, "always"]}, "'the-stack' is gated: accept its terms at .*hf auth login"),
        ({"/auth-check": [403, "always"]}, "'the-stack' is gated"),
        ({API: [404, "always"]}, "hub, which answers with status 404; use 'stdlib'"),
        ({API: [503, "always"]}, "which answers with status 503; try again later; use 'stdlib'"),
        ({API: ["hang", "always"]}, r"which cannot be reached \(\w+\); use 'stdlib'"),
    ],
)
def test_what_the_hub_refuses_is_one_line(fetch, faults, said):
    assert re.search(said, refused(fetch(BATCHES, FILES, faults)))


WIKITEXT = """
import sys
from ponderttt.data import hub, language_files
from ponderttt.errors import InputError

hub.PATIENCE = 3
hub.TIMEOUT = language_files.TIMEOUT = 1
try:
    splits, versions = language_files.read_language("wikitext-2")
    print({split: [article.title for article in found] for split, found in splits.items()})
    print(versions)
except InputError as error:
    sys.exit(f"error: {error}")
"""


def test_wikitext_is_read_article_by_article_through_a_cut(fetch):
    files = {
        f"wikitext-2-raw-v1/{split}-00000-of-00001.parquet": parquet(
            [{"text": text} for n in range(2) for text in
             ("", f" = {split} {n} = \n", "", f" Of what article {n} is about . \n")]
        )
        for split in ("train", "validation", "test")
    }  # fmt: skip
    card = "---\nconfigs:\n- config_name: wikitext-2-raw-v1\n  data_files:\n"
    for split in ("train", "validation", "test"):
        card += f"  - split: {split}\n    path: wikitext-2-raw-v1/{split}-*\n"
    files["README.md"] = (card + "---\n").encode()
    where = "Salesforce/wikitext"
    done = fetch(WIKITEXT, files, {"train-00000-of-00001.parquet": ["cut"]}, where)
    assert done.returncode == 0, done.stderr
    titles, versions = done.stdout.splitlines()[-2:]
    assert "'train': ['train 0', 'train 1']" in titles and "'test 1'" in titles
    assert COMMIT in versions
    gated = fetch(WIKITEXT, files, {"/revision/main": [503, "always"]}, where)
    assert "'wikitext-2' is on the Hugging Face hub, which answers with status 503" in refused(
        gated
    )
