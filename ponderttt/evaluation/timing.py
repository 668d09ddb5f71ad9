"""Times taken in turns, so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax

K = TypeVar("K")


def seconds(function: Callable, *arguments) -> Callable[[], float]:
    """A measurement: one call of `function`, its result waited for, in seconds."""

    def measure() -> float:
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        return time.perf_counter() - start

    return measure


def interleaved(
    measurements: Mapping[K, Callable[[], float]], *, repeats: int = 7
) -> dict[K, float]:
    """Median seconds of each measurement after one call to warm up, all taken in turns."""
    for measure in measurements.values():
        measure()
    taken: dict[K, list[float]] = {name: [] for name in measurements}
    for _ in range(repeats):
        for name, measure in measurements.items():
            taken[name].append(measure())
    return {name: statistics.median(times) for name, times in taken.items()}
