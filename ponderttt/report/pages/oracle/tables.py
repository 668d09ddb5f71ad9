"""The oracle page in numbers."""

import numpy as np

from ponderttt.report.display import markdown
from ponderttt.report.display.claims import millinats, to_markdown
from ponderttt.report.display.equal_cost import label
from ponderttt.report.pages.oracle.claims import claims
from ponderttt.result import Result


def available(result: Result) -> markdown.Markdown:
    """Gains over SKIP at equal cost, and what lies between control and oracle."""
    table = result.tables["available"]
    bound = result.tables["one_step"].set_index(["stream", "budget"])["gain"]
    rows = [
        [
            str(row["stream"]), f"{row['budget']:g}", label(row["control"]),
            *(f"{1e3 * row[key]:+.1f}" for key in ("control_gain", "greedy_gain", "oracle_gain")),
            millinats(row, below=False), f"{1e3 * bound[row['stream'], row['budget']]:+.1f}",
        ]
        for row in table[table["source"] == "all"].to_dict("records")
    ]  # fmt: skip
    heads = (
        "stream", "budget", "open-loop", "gain", "one-step lookahead", "oracle",
        "oracle over open-loop", "separable",
    )  # fmt: skip
    return markdown.join(
        "**Gain over SKIP** at equal cost, in thousandths of a nat per token "
        f"({result.scalars['test_documents']} test documents; 95 % intervals by document, each "
        "charged for what it cost beyond the budget): of the best open-loop policy, of one-step "
        f"lookahead, and of the oracle over all {result.scalars['allocations']} allocations.",
        markdown.table(heads, rows, left=3),
        "*Separable* adds up what single decisions would gain on the next unit if they were "
        "independent; what a step gains later is not in it.",
    )


def fixed(result: Result) -> markdown.Markdown:
    """What each action on every unit gains over SKIP, for each kind of text."""
    table = result.tables["fixed"]
    table = table[table["action"] != "SKIP"]
    rows = [
        [str(stream), str(source), *(millinats(row) for row in part.to_dict("records"))]
        for (stream, source), part in table.groupby(["stream", "source"], sort=False)
    ]
    return markdown.join(
        "**Gain over SKIP** of one action on every unit, in thousandths of a nat per token.",
        markdown.table(("stream", "kind of text", *table["action"].unique()), rows, left=2),
    )


def conclusions(result: Result) -> markdown.Markdown:
    """The claims with their verdicts."""
    return to_markdown(claims(result))


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    documents, frontier = result.tables["documents"], result.tables["frontier"]
    equal = documents.groupby(["stream", "budget", "method"])["cost"].mean().unstack()
    curves = [
        part.sort_values("budget")["loss"].to_numpy()
        for _, part in frontier[frontier["method"] == "oracle"].groupby("stream")
    ]
    best = frontier[frontier["method"] == "oracle"].groupby("stream")["loss"].min()
    others = frontier[frontier["method"] != "oracle"].groupby("stream")["loss"].min()
    rho = result.tables["correlations"]["rho"]
    shares = result.tables["allocations"].groupby(["stream", "budget", "source", "unit"])["share"]
    lines = [f"{name}: {len(table)} rows" for name, table in sorted(result.tables.items())]
    lines += [
        f"documents: {documents.groupby(['stream', 'source'])['path'].nunique().to_dict()}",
        "the oracle spends no more than the control: "
        f"{bool((equal['oracle'] <= equal['control'] + 1e-6).all())}",
        "a larger budget never costs the oracle: "
        f"{all((np.diff(curve) < 1e-6).all() for curve in curves)}",
        "no action and no control is below the oracle's best: "
        f"{bool((best <= others + 1e-3).all())}",
        f"shares of actions add up to 1: {bool(np.allclose(shares.sum(), 1))}",
        f"correlations within [-1, 1]: {bool(rho.abs().max() <= 1)}",
    ]
    return "\n".join(lines)
