"""Progress of long work: a file for the report's bar, or a bar of its own on a terminal."""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import TypeVar

from tqdm import tqdm

from ponderttt.storage import write_text

T = TypeVar("T")

SECONDS_APART = 0.2
"""Of two accounts of one piece of work: a training loop takes thousands of steps."""


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yield `items`, telling how far it got.

    Where `PONDERTTT_PROGRESS` names a file, it is rewritten with {"label", "done", "total"} as
    often as the report reads it; otherwise a bar is drawn on standard error and removed at the end.
    """
    path = os.environ.get("PONDERTTT_PROGRESS")
    if not path:
        yield from tqdm(items, desc=label, total=total, leave=False)
        return
    written = -math.inf
    for done, item in enumerate(items):
        if time.monotonic() - written >= SECONDS_APART:
            write_text(path, json.dumps({"label": label, "done": done, "total": total}))
            written = time.monotonic()
        yield item
    write_text(path, json.dumps({"label": label, "done": total, "total": total}))


def ticker(label: str, total: int) -> Callable[[], None]:
    """`track` for work that calls back: call what this gives for each of `total` that is done."""
    bar, lock = track(range(total), label, total), Lock()
    next(bar, None)

    def tick() -> None:
        with lock:  # JAX calls back from threads of its own
            next(bar, None)

    return tick
