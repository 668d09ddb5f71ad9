"""The peers: scripts for another interpreter, and what is said of one that cannot be had."""

import ast
import sys
from pathlib import Path

import pytest

from ponderttt.bench import peer

SOURCES = [path.read_text() for path in sorted(Path(peer.__file__).parent.glob("*.py"))]
NAMED = [
    call.args[1].value
    for source in SOURCES
    for call in ast.walk(ast.parse(source))
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "peer_process"
]


def test_every_script_that_is_asked_for_is_there_and_needs_nothing_of_ours():
    assert len(NAMED) == 3
    for script in NAMED:
        assert "import ponderttt" not in (peer.PEERS / script).read_text()


def test_a_peer_answers_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(peer, "PEERS", tmp_path)
    (tmp_path / "echo.py").write_text("import sys\nfor line in sys.stdin: print(line, flush=True)")
    with peer.peer_process(sys.executable, "echo.py") as measure:
        assert measure("0.25") == 0.25


@pytest.mark.parametrize(
    ("python", "said"), [(None, "--peer-python"), (sys.executable, "can't open file")]
)
def test_a_peer_that_cannot_be_had_says_why(python, said):
    with pytest.raises(ValueError, match=said), peer.peer_process(python, "none.py") as measure:
        measure("1")
