"""Records: what an experiment found, as Parquet tables and one JSON file that names them.

The JSON is the manifest and is written last; tables carry their own hash in their name, so that a
record is replaced as a whole: whoever is killed half-way leaves the old one, or the new one.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ponderttt.errors import InputError
from ponderttt.storage import ROOT, atomic_path, file_sha256, writable_folder, write_text

MANIFEST = "record.json"
PACKAGES = ("ponderttt", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "pandas", "altair")


@dataclass(frozen=True)
class Result:
    """The outcome of one experiment: everything a page shows is computed from it."""

    name: str
    config: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    scalars: dict[str, float | str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


def records_folder() -> Path:
    """Where records go: `PONDERTTT_RECORDS`, set by the report; by hand, .report/manual/records."""
    return Path(os.environ.get("PONDERTTT_RECORDS") or ROOT / ".report" / "manual" / "records")


def save(result: Result, folder: Path | str | None = None) -> str:
    """Write `result` into `folder` (default: its name below `records_folder()`); gives its hash."""
    folder = writable_folder(folder or records_folder() / result.name)
    tables = {name: _save_table(table, folder, name) for name, table in result.tables.items()}
    record = {
        "name": result.name,
        "config": _plain(result.config),
        "scalars": _plain(result.scalars),
        "meta": environment() | _plain(result.meta),
        "tables": tables,
    }
    record["hash"] = _hash(record)
    write_text(folder / MANIFEST, json.dumps(record, indent=1, allow_nan=True) + "\n")
    kept = {entry["file"] for entry in tables.values()}
    for stale in folder.glob("*.parquet"):
        if stale.name not in kept:
            stale.unlink()
    return record["hash"]


def load_manifest(folder: Path | str) -> dict[str, Any]:
    """The verified manifest of the record in `folder`; a damaged record is an `InputError`."""
    path = Path(folder) / MANIFEST
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        stated = record["hash"]
        tables = record["tables"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot read the record {path}: {error}; run its notebook again to write it anew"
        ) from error
    if stated != _hash(record):
        raise InputError(f"the record {path} was altered: its hash differs; run its notebook again")
    for name, entry in tables.items():
        file = Path(folder) / entry["file"]
        if not file.is_file() or file_sha256(file) != entry["sha256"]:
            raise InputError(
                f"the table {name!r} of a record is missing or damaged ({file}): its SHA-256 "
                "differs from the manifest's; run its notebook again"
            )
    return record


def load(folder: Path | str) -> Result:
    """Read a record back; every file is verified first."""
    record = load_manifest(folder)
    tables = {
        name: pd.read_parquet(Path(folder) / entry["file"])
        for name, entry in record["tables"].items()
    }
    return Result(record["name"], record["config"], tables, record["scalars"], record["meta"])


def environment() -> dict[str, Any]:
    """Versions, device and commit: what a number must be read with."""
    import jax

    device = jax.devices()[0]
    kind = f"{os.cpu_count()} CPU cores" if device.platform == "cpu" else device.device_kind
    return {
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": kind,
        "commit": _commit(),
    }


def _save_table(table: pd.DataFrame, folder: Path, name: str) -> dict[str, Any]:
    with atomic_path(folder / f"{name}.parquet.writing") as temporary:
        table.to_parquet(temporary, index=False)
        digest = file_sha256(temporary)
        file = f"{name}-{digest[:16]}.parquet"
    (folder / f"{name}.parquet.writing").replace(folder / file)
    return {"file": file, "sha256": digest, "rows": len(table)}


def _plain(value: Any) -> Any:
    """Tuples as lists and numpy scalars as numbers: what JSON gives back unchanged."""
    return json.loads(json.dumps(value, default=lambda item: item.item()))


def _hash(record: dict[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _commit() -> str:
    """The checkout's commit, with a + where files differ from it; `unknown` outside of git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
