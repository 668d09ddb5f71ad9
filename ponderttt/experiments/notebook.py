"""What notebooks say in one line: a configuration from their parameters, and the result of it."""

import ast
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ponderttt.checks import shown
from ponderttt.errors import InputError
from ponderttt.machine import check_machine
from ponderttt.result import Result, plain

STORED = "PONDERTTT_STORED"
"""A folder of records, by name: where it is set, results are read from there, not computed."""


_ABSENT = object()


@runtime_checkable
class Experiment(Protocol):
    """A package of `ponderttt.experiments`, as notebooks and the report know it."""

    __name__: str
    CONFIG: Any
    """The frozen dataclass of its parameters."""
    MEANINGS: Mapping[str, str]
    """What a row of each of its tables is."""

    def run(self, config: Any, /) -> Result:
        """Compute."""


def config(kind: Any, namespace: Mapping[str, Any]) -> Any:
    """A configuration of `kind`, each field from the variable of its name where there is one.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Sizes:
    ...     units: int = 4
    ...     seed: int = 0
    >>> config(Sizes, {"units": 8, "other": 1})
    Sizes(units=8, seed=0)

    Papermill adds to a notebook whatever it is given, and only warns of a name that the notebook
    does not have: here it is an `InputError`, as is a value that is not of its field's type.
    """
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    for name in _injected(namespace):
        if name not in names:
            raise InputError(
                f"unknown parameter {shown(name)}: expected some of {', '.join(names)}"
            )
    return kind(**{name: namespace[name] for name in names if name in namespace})


def _injected(namespace: Mapping[str, Any]) -> list[str]:
    """The names that papermill's cell sets, which IPython keeps among those that ran."""
    cells = namespace.get("In", ())
    sources = [cell for cell in cells if isinstance(cell, str) and cell.startswith("# Parameters")]
    return [
        target.id
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]


def run(experiment: Experiment, config: Any) -> Result:
    """What `experiment` gives under `config`, with the meanings of its tables.

    Where `ponderttt render` has set `PONDERTTT_STORED`, it is read from the record there, which
    has to be one of this very configuration; otherwise it is computed.
    """
    folder = os.environ.get(STORED)
    name = experiment.__name__.rpartition(".")[2]
    if folder:
        result = Result.load(Path(folder) / name)
        check_config(result, config, Path(folder) / name)
    else:
        # Under a report the flags of XLA were tried before it began.
        check_machine(probe="PONDERTTT_RECORDS" not in os.environ)
        result = experiment.run(config)
    return dataclasses.replace(result, meanings=dict(experiment.MEANINGS))


def check_config(result: Result, config: Any, folder: Path) -> None:
    """An `InputError` unless the record in `folder` has its `result` from this very `config`."""
    asked = plain(dataclasses.asdict(config))
    others = sorted(
        key
        for key in asked.keys() | result.config.keys()
        if asked.get(key, _ABSENT) != result.config.get(key, _ABSENT)
    )
    if others:
        raise InputError(
            f"the record {folder} was computed with other parameters ({', '.join(others)}): "
            "expected those of its preset; run the notebook to compute it anew"
        )
