"""Running one notebook through papermill, in a process and with a kernel of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from ponderttt.machine import child_environment
from ponderttt.storage import cache_folder, writable_folder, write_text

KERNEL = "ponderttt"
BOUND = [sys.executable, "-m", "ponderttt.report.batch.bound"]
LITTLE_WORK = {"smoke"}
"""Presets whose programs run for less time than it takes to optimise them."""


class Execution:
    """`template` as it runs with `params` inside the folder `work`; it ends when this process does.

    Whether it went well is for the gate to say, which looks at what lies at `executed` and
    `record` afterwards.
    """

    def __init__(self, template: Path, params: dict[str, Any], preset: str, work: Path):
        name, work = template.stem, writable_folder(work)
        self.executed, self.record = work / f"{name}.ipynb", work / "records" / name
        self._progress = work / f"{name}.progress.json"
        for stale in (self.executed, self._progress):
            stale.unlink(missing_ok=True)
        shutil.rmtree(self.record, ignore_errors=True)
        parameters = work / f"{name}.yaml"
        write_text(parameters, yaml.safe_dump(params))
        command = [
            *BOUND, "papermill", str(template), str(self.executed), "-f", str(parameters),
            "-k", KERNEL, "--no-progress-bar", "--log-level", "WARNING",
        ]  # fmt: skip
        self._started = time.monotonic()
        with (work / f"{name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=_environment(work, self._progress, preset),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the report, which stops what it started
            )

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def is_running(self) -> bool:
        """Whether papermill is at work."""
        return self._process.poll() is None

    def progress(self) -> tuple[str, int, int]:
        """(label, done, total) as the library last told it."""
        try:
            progress = json.loads(self._progress.read_text(encoding="utf-8"))
            return progress["label"], progress["done"], progress["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return "starting", 0, 1

    def wait(self) -> None:
        """Until papermill has ended."""
        self._process.wait()

    def stop(self) -> None:
        """End it at once; its kernel is bound to it."""
        self._process.kill()
        self._process.wait()


def _environment(work: Path, progress: Path, preset: str) -> dict[str, str]:
    """What must be set before the kernel starts; the kernel is this very interpreter."""
    kernel = {
        "argv": [*BOUND, "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "PonderTTT",
        "language": "python",
    }
    write_text(work / "jupyter" / "kernels" / KERNEL / "kernel.json", json.dumps(kernel))
    return child_environment() | {
        **bytecode(),
        **compilation(little_work=preset in LITTLE_WORK),
        "JUPYTER_PATH": str(work / "jupyter"),
        # A notebook's progress goes to the report, not to widgets that are not installed.
        "PYTHONWARNINGS": "ignore:IProgress not found",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PONDERTTT_PROGRESS": str(progress),
        "PONDERTTT_RECORDS": str(work / "records"),
    }


def compilation(*, little_work: bool) -> dict[str, str]:
    """Compiled programs are shared by all notebooks and runs, the smallest too.

    With `little_work` XLA does not optimise them: half of the time that it takes is saved.
    """
    flags = [os.environ.get("XLA_FLAGS", "")]
    if little_work and "xla_backend_optimization_level" not in flags[0]:
        flags.append("--xla_backend_optimization_level=0")
    return {
        "XLA_FLAGS": " ".join(filter(None, flags)),
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR")
        or str(cache_folder("jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def bytecode() -> dict[str, str]:
    """A place for what Python compiles, where it may not put it beside the sources.

    Else every kernel and every book would compile all packages again.
    """
    if not sys.dont_write_bytecode:
        return {}
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(cache_folder("bytecode"))}
