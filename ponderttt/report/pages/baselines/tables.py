"""The baselines page in numbers: losses, gains, conclusions and checks."""

from ponderttt.report.display import markdown
from ponderttt.report.display.claims import millinats, to_markdown
from ponderttt.report.pages.baselines.claims import claims
from ponderttt.report.pages.baselines.names import (
    OBJECTIVE_LABELS,
    gains,
    objectives,
    sources,
    updates,
)
from ponderttt.result import Result


def losses(result: Result) -> markdown.Markdown:
    """Two tables: loss and cost of every method on every source, and the gains with intervals."""
    names, table = sources(result), gains(result)
    loss_rows, gain_rows = [], []
    for objective in ("none", *objectives(result)):
        heading = "*no adapter*" if objective == "none" else f"*{OBJECTIVE_LABELS[objective]}*"
        loss_rows.append([heading, *[""] * (len(names) + 1)])
        gain_rows.append([heading, *[""] * len(names)])
        for method in (m for o, m, source in table if (o, source) == (objective, "all")):
            at = [table[objective, method, name] for name in names]
            cost = f"{at[0]['cost']:.2f}"
            loss_rows.append([method, *(f"{row['loss']:.4f}" for row in at), cost])
            if method not in ("base", "SKIP"):
                gain_rows.append([method, *(millinats(row) for row in at)])
    counts = ", ".join(f"{table['none', 'base', name]['n']} of {name}" for name in names[1:])
    return markdown.join(
        f"**Loss** in nats per token, and nominal cost per unit (test documents: {counts}).",
        markdown.table(("", *names, "cost"), loss_rows),
        "**Gain** in thousandths of a nat per token, with its 95 % interval by document: of "
        "`base x2` and `base x4` over `base`, of the others over `SKIP` of the same objective.",
        markdown.table(("", *names), gain_rows),
    )


def conclusions(result: Result) -> markdown.Markdown:
    """The claims with their verdicts, and the floor that the last of them is about."""
    return markdown.join(
        to_markdown(claims(result)),
        "**The floor**, in nats per token: no loss on uniform tokens may be under ln V − 3 s.e.",
        uniform_floor(result),
    )


def uniform_floor(result: Result) -> markdown.Markdown:
    """Loss of every method on uniform tokens beside the floor that none may pass."""
    rows = [
        [
            "–" if row["objective"] == "none" else OBJECTIVE_LABELS[row["objective"]],
            row["method"],
            *(f"{row[key]:.4f}" for key in ("nll", "se", "bound")),
            "yes" if row["ok"] else "**no**",
        ]
        for row in result.tables["uniform"].to_dict("records")
    ]
    heads = ("objective", "method", "loss", "s.e.", "ln V − 3 s.e.", "respected")
    return markdown.table(heads, rows, left=2)


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    units = result.tables["units"]
    lines = [f"{name}: {len(table)} rows" for name, table in sorted(result.tables.items())]
    lines += [
        f"documents: {units.groupby('source')['path'].nunique().to_dict()}",
        f"units in a document: at most {units['unit'].max() + 1}",
        f"methods: {', '.join(sorted(units['method'].unique()))}",
        f"losses finite and positive: {bool(units['nll'].gt(0).all())}",
        f"costs rise with the steps: {_costs_rise(result)}",
        f"uniform floor respected: {bool(result.tables['uniform']['ok'].all())}",
    ]
    return "\n".join(lines)


def _costs_rise(result: Result) -> bool:
    costs = [
        [table_row["cost"] for (_, method, _), table_row in gains(result).items() if method == name]
        for name in ("SKIP", *updates(result))
    ]
    return all(max(fewer) < min(more) for fewer, more in zip(costs, costs[1:], strict=False))
