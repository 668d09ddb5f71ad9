"""The convergence page in numbers."""

import numpy as np

from ponderttt.report.display import markdown
from ponderttt.report.display.claims import millinats, to_markdown
from ponderttt.report.pages.convergence.claims import claims
from ponderttt.report.pages.convergence.names import labels
from ponderttt.result import Result


def gains(result: Result) -> markdown.Markdown:
    """Gain of every condition at every K over the same slow weights without steps."""
    table = labels(result.tables["gains"])
    steps = [k for k in sorted(table["steps"].unique()) if k > 0]
    rows = []
    keys = ["panel", "training", "direction"]
    for (panel, training, direction), group in table.groupby(keys, sort=False):
        by_steps = group.set_index("steps").to_dict("index")
        cells = [millinats(by_steps[k]) if k in by_steps else "" for k in steps]
        still = f"{by_steps[0]['loss']:.4f}" if 0 in by_steps else ""
        rows.append([str(panel), f"{training}, {direction}", still, *cells])
    heads = ["limit" if np.isinf(k) else f"K = {k:g}" for k in steps]
    count = result.scalars["test_documents"]
    unstable = result.tables["descents"]["unstable"].mean()
    return markdown.join(
        f"**Loss** without any step, in nats per token, and **gain** of K steps on every unit over "
        f"it, in thousandths of a nat with 95 % intervals ({count} test documents).",
        markdown.table(("objective", "slow weights", "K = 0", *heads), rows, left=2),
        "Next-token has no slow weights: its K = 0 is the frozen model. One rate, tuned on "
        "training documents for K = 1 and K = 4 together, serves every K. "
        f"The learned rates of the layer without norm would diverge, if they went on, on "
        f"{unstable:.1%} of the units and heads.",
    )


def conclusions(result: Result) -> markdown.Markdown:
    """The claims with their verdicts."""
    return to_markdown(claims(result))


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    descents, made = result.tables["descents"], result.tables["made"]
    outer = result.tables["outer"]
    falling = all(
        (np.diff(part[["gap", "excess"]], axis=0) < 0).all()
        for _, part in descents.groupby("document")
    )
    nearest = made.groupby("condition")["gap"].min()
    one = descents[descents["steps"] == 1]
    near = np.isclose(descents["gap"], descents["expected"], rtol=1e-2)
    lines = [f"{name}: {len(table)} rows" for name, table in sorted(result.tables.items())]
    lines += [
        f"documents: {outer.groupby('source')['path'].nunique().to_dict()}",
        f"conditions: {len(outer.groupby(['objective', 'trained', 'direction', 'steps']))}",
        f"losses finite and positive: {bool(outer['loss'].gt(0).all())}",
        f"every step comes nearer to the limit and lowers the inner loss: {falling}",
        f"distances on real states are those of the spectrum, to 1 %: {bool(near.all())}",
        f"the dual form of a unit is one step: "
        f"{bool(np.allclose(one['dual'], one['gap'], rtol=1e-3))}",
        f"synthetic problems converge to their limits: {bool(nearest.lt(1e-3).all())}",
    ]
    return "\n".join(lines)
