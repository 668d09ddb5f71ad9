"""The ppo_policy page in numbers."""

import numpy as np

from ponderttt.report.display import markdown
from ponderttt.report.display.claims import millinats
from ponderttt.result import Result


def budgets(result: Result) -> markdown.Markdown:
    """How the budget is kept: while training, on test documents, and under the hard account."""
    table = result.tables["seeds"]
    rows = []
    for (stream, budget), part in table.groupby(["stream", "budget"], sort=False):
        rows.append(
            [
                str(stream), f"{budget:g}", _range(part["share"], ".0%"),
                *(f"{part[cost].mean():.2f}<br>({part[error].mean():.1%})"
                  for cost, error in (("trained_cost", "trained_error"), ("cost", "error"))),
                f"{1e3 * part['gain'].mean():+.1f}",
                f"{part['hard_cost'].mean():.2f}", f"{1e3 * part['hard_gain'].mean():+.1f}",
                str(int(part["violations"].sum())),
            ]
        )  # fmt: skip
    return markdown.join(
        f"**The budget**, means over {result.config['seeds']} seeds. *Gap*: lowest to highest "
        "seed. *Trained*: cost in the last quarter of training, and the mean distance from the "
        "budget. *Test*: the same on test documents, after calibration on validation documents. "
        "*Hard*: the stream read once under an account that pays in the budget with every unit. "
        "Gains over SKIP in thousandths of a nat. *Overdrawn*: units, over all seeds.",
        markdown.table(
            ("stream", "budget", "gap", "trained", "test", "gain", "hard", "gain", "overdrawn"),
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
    table = result.tables["versus"]
    rows = []
    for (stream, method), part in table.groupby(["stream", "method"], sort=False):
        cells = [
            "–" if np.isnan(row["gain"]) else f"{millinats(row)}<br>p {row['p_holm']:.3f}"
            for row in part.to_dict("records")
        ]
        rows.append([str(stream), str(method), *cells])
    return markdown.join(
        "**PPO over each rival** at equal cost, in thousandths of a nat per token, seeds averaged "
        "within a document; 95 % intervals by document, a permutation test's p after Holm over "
        "all rows.",
        markdown.table(("stream", "rival", *_columns(result)), rows, left=2),
    )


def _columns(result: Result) -> list[str]:
    return [f"budget {budget:g}" for budget in result.config["budgets"]]
