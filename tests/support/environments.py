"""Processes with variables of their own: what a user's machine may have set."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PROBE = """
import sys
from pathlib import Path
from rich.console import Console
from ponderttt.experiments.command import execute
from ponderttt.report.batch.live import at_work, say

def probe():
    if "jax" in sys.argv:
        from ponderttt.machine import check_machine
        check_machine()
        import jax.numpy as jnp
        from ponderttt.models.decoder.lm import TransformerLM
        lm = TransformerLM.from_pretrained("tiny", dtype="float32")
        logits = lm.logits(jnp.ones((1, 8), int))
        assert logits.dtype == jnp.float32 and bool(jnp.isfinite(logits).all())
    from ponderttt.storage import cache_folder
    cache_folder("probe")
    console = Console()
    with at_work(console, "working [x]"):
        say(console, "well \\u2192 [x]", True)
        say(console, "ill [/] \\u2717", False)

sys.exit(execute(probe, []))
"""


class Said(NamedTuple):
    """What a process said, and its exit code."""

    code: int
    out: str
    error: str


def run(script: str, *arguments: str, cwd: Path | None = None, **variables: str | None) -> Said:
    """`python -c script` with `variables` set, or (None) not set."""
    return call([sys.executable, "-c", script, *arguments], variables, cwd=cwd)


def call(command: list[str], variables: Mapping[str, str | None], cwd: Path | None = None) -> Said:
    """A command with `variables` set, or (None) not set."""
    environment = dict(os.environ)
    for name, value in variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, timeout=120)
    decoded = (stream.decode("utf-8", errors="replace") for stream in (done.stdout, done.stderr))
    return Said(done.returncode, *decoded)
