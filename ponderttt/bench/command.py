"""The command that measures."""

import dataclasses
import json
from typing import Annotated

import tyro

Names = tyro.conf.Positional[tuple[str, ...]]


def bench(
    names: Names = (),
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
    peer_python: str | None = None,
) -> int:
    """Measure speed and memory against peers, and say which bars are met.

    Args:
        names: Groups of measurements; default all of them. An unknown name lists them.
        json_: Print a JSON list alone on standard output.
        peer_python: Interpreter with torch and transformers, which are no dependency here
            (`python -m venv peer && peer/bin/pip install torch==2.13.0 transformers`).
    """
    from ponderttt.bench import Options
    from ponderttt.bench import run as run_bench
    from ponderttt.machine import check_machine

    check_machine()
    rows = run_bench(names, Options(peer_python))
    fields = [dataclasses.asdict(row) for row in rows]
    if json_:
        print(json.dumps(fields, indent=1))
    else:
        _print(fields)
    return 0


def _print(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ponderttt.machine import can_show

    table = Table("", "name", "value", "unit", "peer", "ratio", "bar", "reason")
    for row in rows:
        numbers = ["–" if row[key] is None else f"{row[key]:.3g}" for key in ("ratio", "bar")]
        marks = ("✓", "✗") if can_show("✓✗") else ("ok", "no")
        mark = Text(marks[not row["ok"]], "green" if row["ok"] else "red")
        value = "–" if row["value"] is None else f"{row['value']:.4g}"
        cells = [row["name"], value, row["unit"], str(row["peer"]), *numbers, row["reason"]]
        table.add_row(mark, *map(Text, cells))  # as they are: a path may look like markup
    Console().print(table)
