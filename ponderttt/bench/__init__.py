"""Speed and memory beside stated bars: `run` gives one row for each figure."""

from collections.abc import Callable, Sequence
from importlib import import_module

from ponderttt.bench.row import Options, Row
from ponderttt.errors import InputError

__all__ = ["GROUPS", "Options", "Row", "run"]


def _group(module: str) -> Callable[[Options], list[Row]]:
    """The `rows` function of a module that is imported when it is run."""
    return lambda options: import_module(f"ponderttt.bench.{module}").rows(options)


GROUPS: dict[str, Callable[[Options], list[Row]]] = {
    "forward": _group("forward"),
    "head": _group("head"),
    "inner": _group("inner"),
    "oracle": _group("oracle"),
    "ppo": _group("ppo"),
    "repositories": _group("repositories"),
    "switch": _group("switch"),
    "train": _group("train"),
}


def run(names: Sequence[str] = (), options: Options | None = None) -> list[Row]:
    """The rows of the groups called `names` (all of them by default)."""
    for name in names:
        if name not in GROUPS:
            raise InputError(f"unknown bench {name!r}: expected one of {', '.join(GROUPS)}")
    return [row for name in names or GROUPS for row in GROUPS[name](options or Options())]
