"""Compiled programs are counted, and one process takes them from the disk where another left them.

What the disk gives back is the program whatever the process: its key holds nothing of one run.
"""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp

from ponderttt.compilation import compilation

READ = """
import json, jax, numpy as np
from ponderttt.compilation import compilation
from ponderttt.models.decoder.lm import TransformerLM
lm = TransformerLM.from_pretrained("tiny", dtype="float32")
lm.hidden_states(np.zeros((1, 16), np.int32))
print(json.dumps(compilation()._asdict()))
"""


def test_a_program_is_counted_once_with_its_seconds():
    @jax.jit
    def program(x):
        return jnp.sin(x) + 17.0

    x = jnp.zeros(3)
    before = compilation()
    program(x)
    after = compilation()
    assert after.programs == before.programs + 1
    assert min(b - a for a, b in zip(before[2:], after[2:], strict=True)) >= 0
    program(x)
    assert compilation() == after


def test_another_process_finds_every_program(tmp_path):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    first, second = (
        json.loads(subprocess.check_output([sys.executable, "-c", READ], env=environment))
        for _ in range(2)
    )
    assert first["read_back"] < first["programs"] and first["compiled"] > 0
    assert second["read_back"] == second["programs"] == first["programs"]
