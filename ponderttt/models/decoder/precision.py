"""Which number type a frozen model computes in: named, or the one this machine is faster with."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.errors import InputError
from ponderttt.models.head import head_nll
from ponderttt.storage import alone_in, cache_folder, write_text

Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

_TOKENS, _WIDTH, _HIDDEN, _VOCABULARY = 256, 576, 3072, 4096
"""SmolLM2-135M's shapes, with a twelfth of its vocabulary."""
_REPEATS = 3


def resolve(dtype: str) -> str:
    """`dtype`, or for `auto` what `fastest` says; any other name is an `InputError`."""
    if dtype != "auto" and dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: expected one of auto, {', '.join(DTYPES)}")
    return fastest() if dtype == "auto" else dtype


def fastest() -> str:
    """float32, unless this machine computes at least as fast in bfloat16.

    Measured once (about half a second) and kept in the cache folder for this processor, this
    version of jax and this device; processes that ask at the same time wait for one measurement.
    """
    machine = machine_name()
    folder = cache_folder("precision")
    path = folder / f"{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"
    with alone_in(folder, wait_seconds=-1):
        seconds = _read(path)
        if seconds is None:
            seconds = measure()
            write_text(path, json.dumps({"machine": machine, "seconds": seconds}, indent=1) + "\n")
    return "bfloat16" if seconds["bfloat16"] <= seconds["float32"] else "float32"


def machine_name() -> str:
    """What a measurement holds for: processor, cores, device, and the jax that compiles for it."""
    lines = {"model name": platform.processor(), "flags": platform.machine()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in lines:
                lines[name.strip()] = value.strip()
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = (*lines.values(), str(cores), device.platform, device.device_kind, jax.__version__)
    return "; ".join(parts)


def measure(clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Seconds in each type of an MLP's product and of a head with its gradient, by `clock`.

    The types take turns and the least of their times counts, so that other work on the machine
    slows neither alone.
    """
    draw = np.random.default_rng(0).standard_normal
    targets = jnp.zeros(_TOKENS, jnp.int32)
    shapes = ((_TOKENS, _WIDTH), (_WIDTH, _HIDDEN), (_VOCABULARY, _WIDTH))
    inputs = {
        name: tuple(jnp.asarray(draw(shape, np.float32), dtype) for shape in shapes)
        for name, dtype in DTYPES.items()
    }
    for arrays in inputs.values():
        jax.block_until_ready(_work(*arrays, targets))  # compiled, and the memory touched
    seconds = dict.fromkeys(inputs, float("inf"))
    for _ in range(_REPEATS):
        for name, arrays in inputs.items():
            start = clock()
            jax.block_until_ready(_work(*arrays, targets))
            seconds[name] = min(seconds[name], clock() - start)
    return seconds


@jax.jit
def _work(x, weight, head, targets):
    product = jnp.matmul(x, weight, preferred_element_type=jnp.float32)
    return product, jax.grad(lambda x: head_nll(x, head, targets).sum())(x)


def _read(path: Path) -> dict[str, float] | None:
    """What was measured before; a file that says nothing of use is measured anew."""
    try:
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        return {name: float(seconds[name]) for name in DTYPES}
    except (OSError, ValueError, KeyError, TypeError):
        return None
