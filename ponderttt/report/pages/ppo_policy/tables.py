"""The ppo_policy page in numbers."""

import numpy as np

from ponderttt.report.display import markdown
from ponderttt.report.display.claims import millinats
from ponderttt.report.display.equal_cost import label
from ponderttt.result import Result


def budgets(result: Result) -> markdown.Markdown:
    """How the budget is kept: while training, on test documents, and under the hard account."""
    table = result.tables["seeds"]
    rows = []
    for (stream, budget), part in table.groupby(["stream", "budget"], sort=False):
        rows.append(
            [
                str(stream), f"{budget:g}", _range(part["share"], ".0%"),
                f"{part['trained_cost'].mean():.2f}", f"{part['trained_error'].mean():.1%}",
                f"{part['cost'].mean():.2f}", f"{part['error'].mean():.1%}",
                f"{1e3 * part['gain'].mean():+.1f}",
                f"{part['hard_cost'].mean():.2f}", f"{1e3 * part['hard_gain'].mean():+.1f}",
                str(int(part["violations"].sum())),
            ]
        )  # fmt: skip
    return markdown.join(
        f"**The budget**, means over {result.config['seeds']} seeds. *Gap*: lowest to highest "
        "seed. *Trained*: cost in the last quarter of training, with the mean distance from the "
        "budget (*off*). *Test*: the same on test documents, after calibration on validation "
        "documents. "
        "*Hard*: the stream read once under an account that pays in the budget with every unit. "
        "Gains over SKIP in thousandths of a nat. *Overdrawn*: units, over all seeds.",
        markdown.table(
            (
                "stream",
                "budget",
                "gap",
                "trained",
                "off",
                "test",
                "off",
                "gain",
                "hard",
                "gain",
                "overdrawn",
            ),
            rows,
            left=2,
        ),
    )


def _range(values, form: str) -> str:
    known = values.dropna()
    if known.empty:
        return "–"
    return f"{format(known.min(), form)} to {format(known.max(), form)}"


def versus(result: Result) -> markdown.Markdown:
    """What PPO gains over each other causal method at equal cost."""
    rows = [
        [
            str(row["stream"]), f"{row['budget']:g}", label(row["method"]),
            *(("–", "–") if np.isnan(row["gain"]) else
              (millinats(row, below=False), f"{row['p_holm']:.3f}")),
        ]
        for row in result.tables["versus"].to_dict("records")
    ]  # fmt: skip
    return markdown.join(
        "**PPO over each rival** at equal cost: gain in thousandths of a nat per token with its "
        "95 % interval by document, seeds averaged within a document; p of a permutation test, "
        "after Holm over all rows.",
        markdown.table(("stream", "budget", "rival", "gain of PPO", "p"), rows, left=3),
    )
