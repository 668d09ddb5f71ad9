"""A saved model's files: which of a folder's are its weights, and the tensors in them."""

import re
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ponderttt.checks import said
from ponderttt.data.text import printable
from ponderttt.errors import InputError
from ponderttt.parsing import read_json

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
MODEL_FILES = (CONFIG, WEIGHTS, INDEX, "model-*.safetensors")
"""What is fetched from the hub: nothing else of a repository is read."""

FLOATS = ("F32", "BF16", "F16", "F64")
"""What safetensors calls the types that weights can have."""


class Tensor(NamedTuple):
    """A tensor of a checkpoint: its name, and what reads its float32 values."""

    name: str
    read: Callable[[], np.ndarray]


def weight_files(folder: Path) -> dict[Path, set[str]]:
    """The files with a saved model's weights, and which tensors its index promises in each.

    As transformers chooses: model.safetensors, else what its index names. Whatever else lies there
    (another copy, an adapter's file, an optimizer's) is not read. Shards without an index are read
    where there is one set of them.
    """
    if (folder / WEIGHTS).is_file():
        return {folder / WEIGHTS: set()}
    if (folder / INDEX).is_file():
        return _indexed(folder)
    there = sorted(printable(path.name) for path in folder.iterdir())
    shards = [match for name in there if (match := _SHARD.fullmatch(name))]
    numbers = {int(shard["number"]) for shard in shards}
    totals = {shard["total"] for shard in shards}
    if len(totals) == 1 and len(numbers) == len(shards):
        total = totals.pop()
        if total and len(shards) < int(total):
            absent = next(number for number in count(1) if number not in numbers)
            raise InputError(
                f"{folder} has {len(shards)} of {total} shards: number {absent} is not there; "
                "fetch that file as well"
            )
        return {folder / shard.string: set() for shard in shards}
    shown = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    raise InputError(
        f"{folder} has no safetensors file of a whole model ({WEIGHTS}, or shards with their "
        f"{INDEX}), only {shown or 'nothing'}; save the model there with save_pretrained (merge an "
        "adapter into its model first, write a .bin again, rename a lone file)"
    )


_SHARD = re.compile(r"model-(?P<number>\d+)(?:-of-(?P<total>\d+))?\.safetensors", re.ASCII)


def _indexed(folder: Path) -> dict[Path, set[str]]:
    index = folder / INDEX
    weight_map = read_mapping(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index} has no weight_map of tensors and files; fetch it again")
    files: dict[Path, set[str]] = {}
    for tensor, file in weight_map.items():
        inside = isinstance(file, str) and not Path(file).is_absolute() and ".." not in file
        inside = inside and file.isprintable() and len(file) < 256
        if not inside or not file.endswith(".safetensors"):
            raise InputError(
                f"{index} says that tensor {printable(tensor)} is in {file!r}: expected "
                "a *.safetensors file inside that folder; fetch the index again"
            )
        if folder / file not in files and not (folder / file).is_file():
            raise InputError(f"{index} names {file}, which is not there; fetch that file as well")
        files.setdefault(folder / file, set()).add(tensor)
    return files


def read_tensors(files: dict[Path, set[str]]) -> list[Tensor]:
    """Every tensor of these files, yet to be read; a damaged file is an `InputError`."""
    tensors: list[Tensor] = []
    for file, promised in files.items():
        opened = _opened(file)
        names = opened.keys()
        if absent := sorted(promised - set(names)):
            raise InputError(
                f"{file} has no tensor {printable(absent[0])}, which the index says is in it; "
                "fetch the file and the index again"
            )
        tensors += [Tensor(name, partial(_values, opened, file, name)) for name in names]
    return tensors


def _opened(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with file.open("rb") as raw:
            pointer = raw.read(20).startswith(b"version https://git-")
        if pointer:
            raise InputError(
                f"{file} is damaged: a pointer of Git LFS in place of the weights; fetch them with "
                "`git lfs pull`"
            )
        return safe_open(file, framework="numpy")
    except SafetensorError as error:
        raise InputError(
            f"{file} is damaged or cut short ({said(error)}); fetch or write it again"
        ) from error
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def _values(opened: Any, file: Path, name: str) -> np.ndarray:
    kind = opened.get_slice(name).get_dtype()
    if kind not in FLOATS:
        raise InputError(
            f"{file}: tensor {printable(name)} is of type {kind}, expected {', '.join(FLOATS)}; "
            "quantised weights are not read, save the model in bfloat16 or float32"
        )
    with np.errstate(over="ignore"):  # infinite as float32: refused where it is used
        return np.asarray(opened.get_tensor(name)).astype(np.float32)


def read_mapping(path: Path) -> dict[str, Any]:
    """What a JSON file says; one that is absent, damaged or no mapping is an `InputError`."""
    expected = f"the {path.name} of a folder that save_pretrained wrote; fetch it again"
    content = read_json(path, expected)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}: expected {expected}")
    return content
