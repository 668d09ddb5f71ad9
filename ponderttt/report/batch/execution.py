"""Running one notebook through papermill, in a process and with a kernel of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ponderttt.storage import cache_folder, writable_folder, write_text

KERNEL = "ponderttt"
POLL_SECONDS = 0.3

Report = Callable[[str, int, int], None]


def execute(
    template: Path, params: dict[str, Any], work: Path, report: Report
) -> tuple[Path, Path, float]:
    """Run `template` with `params` inside the folder `work`.

    Gives the executed notebook, the folder of the record and the seconds it took; whether it went
    well is for the gate to say. `report(label, done, total)` is called as the library gets on.
    """
    name = template.stem
    work = writable_folder(work)
    executed, parameters = work / f"{name}.ipynb", work / f"{name}.yaml"
    progress = work / f"{name}.progress.json"
    record = work / "records" / name
    for stale in (executed, progress):
        stale.unlink(missing_ok=True)
    shutil.rmtree(record, ignore_errors=True)
    write_text(parameters, yaml.safe_dump(params))
    command = [
        sys.executable, "-m", "papermill", str(template), str(executed), "-f", str(parameters),
        "-k", KERNEL, "--no-progress-bar", "--log-level", "WARNING",
    ]  # fmt: skip
    started = time.monotonic()
    with (work / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=_environment(work, progress),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                report(*_read_progress(progress))
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return executed, record, time.monotonic() - started


def _environment(work: Path, progress: Path) -> dict[str, str]:
    """What must be set before the kernel starts; the kernel is this very interpreter."""
    kernel = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "PonderTTT",
        "language": "python",
    }
    write_text(work / "jupyter" / "kernels" / KERNEL / "kernel.json", json.dumps(kernel))
    return os.environ | {
        **bytecode(),
        "JUPYTER_PATH": str(work / "jupyter"),
        # A notebook's progress goes to the report, not to widgets that are not installed.
        "PYTHONWARNINGS": "ignore:IProgress not found",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR")
        or str(cache_folder("jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "PONDERTTT_PROGRESS": str(progress),
        "PONDERTTT_RECORDS": str(work / "records"),
    }


def bytecode() -> dict[str, str]:
    """A place for what Python compiles, where it may not put it beside the sources.

    Else every kernel and every book would compile all packages again.
    """
    if not sys.dont_write_bytecode:
        return {}
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(cache_folder("bytecode"))}


def _read_progress(path: Path) -> tuple[str, int, int]:
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
        return progress["label"], progress["done"], progress["total"]
    except (OSError, ValueError, KeyError):
        return "starting", 0, 1
