"""What a user's machine has set for Python, JAX and the terminal: it works, or one line says why.

JAX reads its variables when it is imported and XLA reads `XLA_FLAGS` when it first computes; both
fail late and at length, and XLA ends the process. So they are tried before any work.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ponderttt.checks import said, shown
from ponderttt.errors import InputError

Device = Literal["cpu", "cuda"]

_HARMFUL = {
    "JAX_ENABLE_X64": "numbers would be others than those of float32, also than those in the cache",
    "JAX_DEBUG_NANS": "NaN marks what is not counted here, such as the end of a short text",
    "JAX_DEBUG_INFS": "infinity marks what may not be chosen here, such as an action too dear",
}
"""Variables that JAX has for other work, and why they may not be set here."""


def check_machine(device: Device | None = None, *, probe: bool = True) -> None:
    """An `InputError` where JAX cannot compute as the environment, or `device`, asks for.

    With `probe` flags of XLA's are tried in a process of their own first, which they may end.
    """
    if probe and os.environ.get("XLA_FLAGS", "").strip():
        probe_machine()
    try:
        import jax
    except ValueError as error:  # of a variable of its own that it cannot read
        raise InputError(f"JAX does not start: {said(error)}; correct or unset it") from error
    _check_modes(jax)
    try:
        found = jax.devices(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(_absent(device, error)) from error
    if device:
        jax.config.update("jax_default_device", found[0])


class Memory(NamedTuple):
    """Bytes that can be held: by the default device, and by the machine (or its container)."""

    device: int
    host: int


def memory() -> Memory:
    """What there is in all, whoever uses some of it now; a CPU's is the machine's."""
    import jax
    import psutil

    host = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        host = min(host, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    device = getattr(jax.config, "jax_default_device", None) or jax.devices()[0]
    statistics = (device.memory_stats() or {}) if device.platform != "cpu" else {}
    return Memory(int(statistics.get("bytes_limit", host)), host)


def probe_machine() -> None:
    """`check_machine` in a process of its own: this one has no need of a device, nor its memory."""
    _probe(tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(("JAX_", "XLA_")))))


@cache
def _probe(variables: tuple[tuple[str, str], ...]) -> None:
    environment = child_environment() | dict(variables)
    done = subprocess.run(
        [sys.executable, "-m", "ponderttt.machine"],
        env=environment | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    lines = done.stderr.strip().splitlines() or ["it ended without a word"]
    complaint = next((line for line in lines if "XLA_FLAGS" in line), None)
    if complaint or done.returncode < 0:  # XLA ends the process at a flag that it does not know
        flags = environment.get("XLA_FLAGS", "")
        reason = (complaint or lines[-1]).rpartition("] ")[2]
        raise InputError(
            f"XLA does not start with XLA_FLAGS={shown(flags)} ({said(reason)}): expected flags "
            "that it knows; correct or unset it"
        )
    if done.returncode:
        raise InputError(lines[-1])


def _check_modes(jax: Any) -> None:
    for name, reason in _HARMFUL.items():
        if getattr(jax.config, name.lower()):
            raise InputError(f"{name} is set: {reason}; unset it")
    guard = os.environ.get("JAX_TRANSFER_GUARD", "")
    if guard.startswith("disallow"):
        raise InputError(f"JAX_TRANSFER_GUARD is {guard!r}: arrays could not be moved; unset it")
    drawing = {"jax_default_prng_impl": "threefry2x32", "jax_threefry_partitionable": True,
               "jax_random_seed_offset": 0}  # fmt: skip
    for name, usual in drawing.items():
        if getattr(jax.config, name) != usual:
            raise InputError(f"{name.upper()} is set: a seed would draw other numbers; unset it")


def _absent(device: Device | None, error: Exception) -> str:
    if device:
        return f"no {device} device: install the extra cuda12, or use --device cpu"
    asked = os.environ.get("JAX_PLATFORMS") or os.environ.get("JAX_PLATFORM_NAME")
    if asked:
        return (
            f"JAX_PLATFORMS is {asked!r}, which JAX does not find here ({said(error)}): expected "
            "cpu, or cuda with a GPU and the extra cuda12; unset it"
        )
    return f"JAX finds no device ({said(error)}): expected a CPU or a GPU; see jax.devices()"


def speak_plainly() -> None:
    """Standard output and error write what a terminal cannot show as its code, and do not fail."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # replaced, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def can_show(text: str, stream=None) -> bool:
    """Whether the terminal (`stream`, by default standard output) has the characters of `text`."""
    try:
        text.encode(getattr(stream or sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def child_environment() -> dict[str, str]:
    """What a process that we start finds set: its text is UTF-8, its asserts hold.

    Where there is no home folder (no HOME, and a user whom the system does not know) the
    processes that ask for one get the temporary folder.
    """
    environment = dict(os.environ) | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        Path.home()
    except RuntimeError:
        environment["HOME"] = tempfile.gettempdir()
    for name in ("PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONWARNINGS"):
        environment.pop(name, None)
    return environment


def explain(error: Exception) -> str | None:
    """One line on what kept a package from being imported, where that is the user's machine."""
    named = re.search(r"\bJAX_[A-Z0-9_]+\b", str(error))
    if isinstance(error, ValueError) and named and named[0] in os.environ:
        return f"JAX does not start: {said(error)}; correct or unset it"
    if isinstance(error, ImportError | AttributeError):
        for name, file in _shadows():
            return (
                f"{file} stands in for the package {name!r}, which cannot be imported "
                f"({said(error)}): rename it, or take its folder out of PYTHONPATH"
            )
    return None


def _shadows() -> Iterator[tuple[str, str]]:
    """Modules that were imported by the name of another package, from a folder of the user's."""
    from importlib.metadata import packages_distributions

    folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    homes = {os.path.realpath(folder) for folder in (*folders, os.getcwd())}
    packages = packages_distributions().keys() | sys.stdlib_module_names
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        home = os.path.dirname(file)
        if os.path.basename(file) == "__init__.py":
            home = os.path.dirname(home)
        if file and name in packages and os.path.realpath(home) in homes and name != "ponderttt":
            yield name, file


if __name__ == "__main__":
    try:
        check_machine(probe=False)
    except InputError as error:
        sys.exit(str(error))
