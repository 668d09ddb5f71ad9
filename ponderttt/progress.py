"""Progress of long work: a file for the report's bar, or a bar of its own on a terminal."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import TypeVar

from tqdm import tqdm

from ponderttt.storage import write_text

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yield `items`, telling how far it got.

    Where `PONDERTTT_PROGRESS` names a file, it is rewritten with {"label", "done", "total"} (the
    report reads it); otherwise a bar is drawn on standard error and removed at the end.
    """
    path = os.environ.get("PONDERTTT_PROGRESS")
    if not path:
        yield from tqdm(items, desc=label, total=total, leave=False)
        return
    write_text(path, json.dumps({"label": label, "done": 0, "total": total}))
    for done, item in enumerate(items, start=1):
        yield item
        write_text(path, json.dumps({"label": label, "done": done, "total": total}))


def ticker(label: str, total: int) -> Callable[[], None]:
    """`track` for work that calls back: call what this gives for each of `total` that is done."""
    bar, lock = track(range(total), label, total), Lock()
    next(bar, None)

    def tick() -> None:
        with lock:  # JAX calls back from threads of its own
            next(bar, None)

    return tick
