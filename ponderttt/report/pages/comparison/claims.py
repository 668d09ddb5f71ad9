"""What the comparison page claims: the same sentences whatever came out."""

import itertools
import math

import numpy as np

from ponderttt.evaluation.statistics import two_way_interval
from ponderttt.experiments.comparison.tables import UNIFORM
from ponderttt.report.display import markdown
from ponderttt.report.display.claims import (
    ABOVE_ZERO,
    NOT_NEGATIVE,
    WITHIN_A_TENTH,
    Claim,
    Evidence,
    to_markdown,
)
from ponderttt.result import Result


def claims(result: Result) -> list[Claim]:
    """Whether models learn, whether steps help, whether looking helps, whether targets hold."""
    return [*_learned(result), *_steps(result), *_looking(result), *_targets(result)]


def _learned(result: Result) -> list[Claim]:
    table = result.tables["methods"]
    untrained = float(result.scalars["untrained_perplexity"])
    fall = math.log(untrained) - table["test_loss"] - math.log(10)
    nan = float("nan")
    return [
        Claim(
            "Every method's test perplexity is at most a tenth of the untrained model's (effect: "
            "the log of the ratio, less that of 10, of the worst method).",
            NOT_NEGATIVE,
            Evidence(float(fall.min()), nan, nan, len(table)),
        )
    ]


def _steps(result: Result) -> list[Claim]:
    present = [name for name in UNIFORM if name in set(result.tables["methods"]["method"])]
    found = [
        Claim(
            f"{more} has lower test loss than {fewer}.",
            ABOVE_ZERO,
            _better(result, more, fewer),
        )
        for fewer, more in itertools.pairwise(present)
    ]
    rate = "uniform_k1_learned_rate"
    if rate in set(result.tables["methods"]["method"]) and "uniform_k8" in present:
        found.append(
            Claim(
                "One step at a learned rate has lower test loss than eight at the fixed rate.",
                ABOVE_ZERO,
                _better(result, rate, "uniform_k8"),
            )
        )
    return found


def _better(result: Result, name: str, than: str) -> Evidence:
    losses = result.tables["documents"].pivot(
        index=["seed", "document"], columns="method", values="loss"
    )
    found = two_way_interval((losses[than] - losses[name]).unstack("document").to_numpy())
    return Evidence(found.mean, found.low, found.high, found.documents)


def _looking(result: Result) -> list[Claim]:
    table = result.tables["tests"]
    if not len(table):
        return []
    return [
        Claim(
            f"{row['method']} has lower test loss than a model trained and evaluated with as many "
            "steps of each kind at random tokens.",
            ABOVE_ZERO,
            Evidence(-row["mean"], -row["high"], -row["low"], row["documents"]),
        )
        for row in table[table["against"] == "random"].to_dict("records")
    ]


def _targets(result: Result) -> list[Claim]:
    nan = float("nan")
    return [
        Claim(
            f"{row['method']} keeps its mean K near its target, in every seed.",
            WITHIN_A_TENTH,
            Evidence(
                max(abs(row[k] / row["target"] - 1) for k in ("fewest_steps", "most_steps")),
                nan,
                nan,
                row["documents"],
            ),
        )  # fmt: skip
        for row in result.tables["methods"].to_dict("records")
        if not np.isnan(row["target"]) and row["kind"] == "learned"
    ]


def conclusions(result: Result) -> markdown.Markdown:
    """The claims with their verdicts."""
    return to_markdown(claims(result))


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    tables = result.tables
    shares = tables["allocation"].dropna().groupby(["method", "seed", "layer"])["share"].sum()
    p = tables["tests"]
    corrected = not len(p) or bool((p["holm_p"] >= p["p"] - 1e-12).all())
    lines = [f"{name}: {len(table)} rows" for name, table in sorted(tables.items())]
    lines += [
        f"parameters: {result.scalars['num_params']}",
        f"test documents: {result.scalars['test_documents']}",
        f"losses finite and positive: {bool(tables['documents']['loss'].gt(0).all())}",
        f"shares of options add up to 1: {bool((abs(shares - 1) < 1e-6).all())}",
        f"no corrected p is below its own: {corrected}",
        f"random controls take as many steps, to a tenth: {_as_many(result)}",
    ]
    return "\n".join(lines)


def _as_many(result: Result) -> bool:
    """Whether each random control took as many steps as its method did on validation documents."""
    table = result.tables["methods"].set_index("method")["validation_steps"]
    pairs = [(table[f"random_as_{n}"], table[n]) for n in table.index if f"random_as_{n}" in table]
    return all(abs(control / own - 1) < 0.1 for control, own in pairs)
