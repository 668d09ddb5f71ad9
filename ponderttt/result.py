"""Records: what an experiment found, as Parquet tables and one JSON file that names them.

The JSON is the manifest and is written last; tables carry their own hash in their name, so that a
record is replaced as a whole: whoever is killed half-way leaves the old one, or the new one.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ponderttt import cache
from ponderttt.checks import shown
from ponderttt.compilation import compilation
from ponderttt.errors import InputError
from ponderttt.parsing import read_json
from ponderttt.storage import (
    as_path,
    atomic_path,
    commit,
    file_sha256,
    outputs_folder,
    writable_folder,
    write_text,
)

MANIFEST = "record.json"
PACKAGES = ("ponderttt", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "pandas", "altair")


class Saved(str):
    """The hash of a record that was written; Jupyter displays it as a sentence."""

    sentence: str

    def _repr_markdown_(self) -> str:
        return self.sentence


@dataclass(frozen=True, repr=False)
class Result:
    """The outcome of one experiment: everything a page shows is computed from it.

    Jupyter displays it as its name and its tables, each with its rows and its meaning.
    """

    name: str
    config: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    scalars: dict[str, float | str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    """What its numbers must be read with; where it is read from a record, also `environment()`."""
    meanings: dict[str, str] = field(default_factory=dict)
    """What a row of each table is, in one sentence."""

    def save(self, folder: Path | str | None = None) -> Saved:
        """Write a record into `folder` (default: the name, below `records_folder()`).

        Gives its hash, which a notebook displays with the number of its tables and rows. Of a
        result that was read from a record, the record's own meta is kept.
        """
        folder = writable_folder(folder or records_folder() / self.name)
        tables = {name: _save_table(table, folder, name) for name, table in self.tables.items()}
        was_read = "versions" in self.meta
        record: dict[str, Any] = {
            "name": self.name,
            "config": plain(self.config),
            "scalars": plain(self.scalars),
            "meta": plain(self.meta if was_read else environment() | self.meta),
            "meanings": self.meanings,
            "tables": tables,
        }
        record["hash"] = _hash(record)
        write_text(folder / MANIFEST, json.dumps(record, indent=1, allow_nan=True) + "\n")
        kept = {entry["file"] for entry in tables.values()}
        for stale in folder.glob("*.parquet"):
            if stale.name not in kept:
                stale.unlink()
        saved = Saved(record["hash"])
        rows = sum(entry["rows"] for entry in tables.values())
        saved.sentence = (
            f"The record of `{self.name}` is written: {len(tables)} tables with {rows:,} rows; "
            f"SHA-256 of its manifest `{saved[:16]}`."
        )
        return saved

    @classmethod
    def load(cls, folder: Path | str) -> "Result":
        """Read a record back; every file is verified first."""
        record = cls.verify(folder)
        tables = {
            name: pd.read_parquet(Path(folder) / entry["file"])
            for name, entry in record["tables"].items()
        }
        return cls(
            record["name"], record["config"], tables, record["scalars"], record["meta"],
            record.get("meanings", {}),
        )  # fmt: skip

    @staticmethod
    def verify(folder: Path | str) -> dict[str, Any]:
        """The manifest of the record in `folder`; a damaged record is an `InputError`."""
        path = Path(folder) / MANIFEST
        try:
            record = read_json(path, "a record that a notebook wrote")
        except InputError as error:
            raise InputError(
                f"no record: {error}; run its notebook again to write it anew"
            ) from error
        if problem := _unlike(record):
            raise InputError(
                f"cannot read the record {path}: {problem}; run its notebook again to write it anew"
            )
        tables = record["tables"]
        if record["hash"] != _hash(record):
            raise InputError(
                f"the record {path} was altered: its hash differs; run its notebook again"
            )
        for name, entry in tables.items():
            file = Path(folder) / entry["file"]
            if not file.is_file() or file_sha256(file) != entry["sha256"]:
                raise InputError(
                    f"the table {name!r} of a record is missing or damaged ({file}): its SHA-256 "
                    "differs from the manifest's; run its notebook again"
                )
        return record

    def __repr__(self) -> str:
        return f"Result({self.name!r}, {len(self.tables)} tables)"

    def _repr_markdown_(self) -> str:
        lines = [f"**{self.name}**", "", "| table | rows | a row is |", "| :-- | --: | :-- |"]
        for name, table in self.tables.items():
            meaning = self.meanings.get(name, "").replace("|", "\\|")
            lines.append(f"| `{name}` | {len(table):,} | {meaning} |")
        return "\n".join(lines) + "\n"


def records_folder() -> Path:
    """Where records go: `PONDERTTT_RECORDS`, set by the report; by hand, .report/manual/records."""
    said = os.environ.get("PONDERTTT_RECORDS", "")
    return as_path(said, "PONDERTTT_RECORDS") if said.strip() else outputs_folder("manual/records")


def environment() -> dict[str, Any]:
    """Versions, device, commit, what was cached, what was compiled: what a number is read with."""
    import jax

    device = jax.devices()[0]
    kind = f"{os.cpu_count()} CPU cores" if device.platform == "cpu" else device.device_kind
    return {
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
        "device": kind,
        "commit": commit(),
        "cached": cache.ledger()._asdict(),
        "compilation": compilation()._asdict(),
    }


def _unlike(record: Any) -> str | None:
    """What keeps JSON from being a record's."""
    if not isinstance(record, dict):
        return f"it holds {shown(record)}"
    kinds = {
        "name": str,
        "hash": str,
        "config": dict,
        "scalars": dict,
        "meta": dict,
        "tables": dict,
    }
    for name, kind in kinds.items():
        if not isinstance(record.get(name), kind):
            return f"its {name} is {shown(record.get(name))}"
    for name, value in record["scalars"].items():
        if not isinstance(value, int | float | str):
            return f"its scalar {shown(name)} is {shown(value)}"
    meanings = record.get("meanings", {})
    if not isinstance(meanings, dict) or not all(isinstance(x, str) for x in meanings.values()):
        return f"its meanings are {shown(meanings)}"
    for name, entry in record["tables"].items():
        for key in ("file", "sha256"):
            if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
                return f"its table {shown(name)} is {shown(entry)}"
    return None


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # used from its folder, not installed
        return "unknown"


def plain(value: Any) -> Any:
    """Tuples as lists and numpy scalars as numbers: what JSON gives back unchanged."""
    return json.loads(json.dumps(value, default=lambda item: item.item()))


def _save_table(table: pd.DataFrame, folder: Path, name: str) -> dict[str, Any]:
    with atomic_path(folder / f"{name}.parquet.writing") as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")
        digest = file_sha256(temporary)
        file = f"{name}-{digest[:16]}.parquet"
    (folder / f"{name}.parquet.writing").replace(folder / file)
    return {"file": file, "sha256": digest, "rows": len(table)}


def _hash(record: dict[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
