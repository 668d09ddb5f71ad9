"""A peer measured in a process of another interpreter, so that its packages are none of ours."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Measure = Callable[[str], float]
PEERS = Path(__file__).parent / "peers"
"""The scripts, which import nothing of ours."""


@contextmanager
def peer_process(python: str | None, script: str, *arguments: str) -> Iterator[Measure]:
    """`measure(line)`: seconds that `script` of `peers` answers to `line`, while the block lasts.

    A peer that cannot be had, or fails, is a `ValueError` (an `OSError` if it cannot be started).
    """
    if python is None:
        raise ValueError("no peer: name an interpreter with torch by --peer-python")
    process = subprocess.Popen(
        [python, PEERS / script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def measure(line: str) -> float:
        assert process.stdin and process.stdout and process.stderr
        try:
            print(line, file=process.stdin, flush=True)
            return float(process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            said = process.stderr.read().strip().splitlines() or ["it ended"]
            raise ValueError(f"the peer {python} failed: {said[-1]}") from error

    try:
        yield measure
    finally:
        process.kill()
        process.communicate()
