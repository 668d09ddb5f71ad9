"""A made-up result of the baselines experiment: every table that its page draws, from a seed."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ponderttt.result import Result

SOURCES = ("packages", "go", "wikipedia")
STEPS = {"SKIP": 0, "UPDATE_1": 1, "UPDATE_2": 2, "UPDATE_4": 4, "RANDOM": 1}
COSTS = {"SKIP": 1.0, "UPDATE_1": 3.0, "UPDATE_2": 5.0, "UPDATE_4": 12.0, "RANDOM": 3.0}
BASE = {"base": (1.0, 0.0), "base x2": (2.0, 0.10), "base x4": (4.0, 0.17)}
RATE = {"next_token": 0.028, "reconstruction": 0.006}


def baselines_result(documents: int = 8, units: int = 16, seed: int = 0) -> Result:
    """`documents` of each source, `units` units each; larger K gains more, later units too."""
    rng = np.random.default_rng(seed)
    rows = [
        row
        for source in SOURCES
        for document in range(documents)
        for row in _document_rows(rng, source, document, units)
    ]
    table = pd.DataFrame(rows)
    per_document = _per_document(table)
    tables = {
        "units": table,
        "documents": per_document,
        "gains": _gains(table, per_document),
        "positions": _positions(table),
        "uniform": _uniform(),
        "explorer": _explorer(table),
        "tuning": pd.DataFrame(
            [
                {"objective": o, "rate": r, "clip": 0.05, "split": "validation",
                 "gain": 0.01 * r, "chosen": r == 2.0}
                for o in RATE for r in (1.0, 2.0)
            ]
        ),
        "training": pd.DataFrame(
            {"step": range(5), "loss": np.linspace(3, 2.9, 5), "validation": [np.nan] * 4 + [2.95]}
        ),
    }  # fmt: skip
    config = {"model": "tiny", "sources": list(SOURCES), "unit_size": 64, "units": units, "seed": 0}
    return Result(
        name="baselines", config=config, tables=tables,
        scalars={"ln_vocabulary": 5.549}, meta={"seconds": 12.5},
        meanings={"units": "a unit | an action"},
    )  # fmt: skip


def _document_rows(rng, source, document, units):
    level = {"packages": 2.3, "go": 2.1, "wikipedia": 2.9}[source]
    losses = level + rng.normal(0, 0.4, units) + 0.6 * np.exp(-np.arange(units))
    talent = rng.normal(1, 0.5) * {"packages": 1.0, "go": 1.1, "wikipedia": 0.35}[source]
    common = {"source": source, "path": f"{source}/file_{document}.txt", "document": document}
    for n in range(units):
        unit = common | {"unit": n, "tokens": 64}
        for name, (cost, gain) in BASE.items():
            yield unit | {"objective": "none", "method": name, "nll": losses[n] - gain * (n > 0),
                          "steps": 0, "cost": cost}  # fmt: skip
        for objective, rate in RATE.items():
            for method in ("rate 0", *STEPS):
                steps = STEPS.get(method, 0)
                gain = rate * talent * np.sqrt(steps) * n / units + rng.normal(0, 1e-3) * (
                    steps > 0
                )
                yield unit | {"objective": objective, "method": method, "nll": losses[n] - gain,
                              "steps": steps, "cost": COSTS.get(method, 1.0)}  # fmt: skip


def _per_document(table):
    means = table.groupby(["source", "path", "objective", "method"], as_index=False)["nll"].mean()
    reference = means[means["method"].isin(["SKIP", "base"])]
    reference = reference[["path", "objective", "nll"]].rename(columns={"nll": "reference"})
    merged = means.merge(reference, on=["path", "objective"])
    merged["gain"] = merged["reference"] - merged["nll"]
    return merged[["source", "path", "objective", "method", "gain"]]


def _interval(values):
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return {"gain": values.mean(), "low": values.mean() - half, "high": values.mean() + half}


def _gains(table, per_document):
    both = pd.concat([per_document, per_document.assign(source="all")])
    losses = pd.concat([table, table.assign(source="all")])
    losses = losses.groupby(["source", "objective", "method"])[["nll", "cost"]].mean()
    return pd.DataFrame(
        [
            dict(zip(("source", "objective", "method"), key, strict=True))
            | {"loss": losses.loc[key, "nll"], "cost": losses.loc[key, "cost"], "n": len(group)}
            | _interval(group["gain"])
            for key, group in both.groupby(["source", "objective", "method"])
        ]
    )


def _positions(table):
    keys = ["source", "path", "objective", "unit"]
    updates = table[table["method"].str.startswith("UPDATE")]
    skip = table[table["method"] == "SKIP"].set_index(keys)["nll"].rename("skip")
    merged = updates.join(skip, on=keys)
    merged["gain"] = merged["skip"] - merged["nll"]
    return pd.DataFrame(
        [
            {"objective": o, "method": m, "unit": u} | _interval(group["gain"])
            for (o, m, u), group in merged.groupby(["objective", "method", "unit"])
        ]
    )


def _uniform():
    return pd.DataFrame(
        [
            {"objective": o, "method": m, "nll": 5.56, "se": 0.004, "bound": 5.537, "ok": True}
            for o in RATE for m in ("SKIP", "UPDATE_1", "UPDATE_2", "UPDATE_4")
        ]
    )  # fmt: skip


def _explorer(table):
    text = Path(__file__).read_text(encoding="utf-8")
    pieces = re.findall(r"\n *| ?\w{1,6}| ?[^\w\s]{1,2}| ", text)
    rng = np.random.default_rng(1)
    chosen = table[(table["document"] == 0) & (table["objective"] == "next_token")]
    rows = []
    for (source, path, unit), group in chosen.groupby(["source", "path", "unit"]):
        start = (unit * 256) % (len(pieces) - 256)
        row = {"source": source, "path": path, "document": 0, "unit": unit}
        row["pieces"] = pieces[start : start + 256]
        skip = rng.exponential(2.3, 256)
        for method, loss in group.set_index("method")["nll"].items():
            if method in ("SKIP", "UPDATE_1", "UPDATE_2", "UPDATE_4"):
                row[method] = loss
                noise = rng.normal(0.02, 0.15, 256) * (method != "SKIP")
                row[f"nll_{method}"] = np.maximum(skip - noise, 0.0).tolist()
        rows.append(row)
    return pd.DataFrame(rows)
