"""What the pages that compare policies at equal cost share: frontier, gaps, ledgers."""

import dataclasses

import altair as alt
import numpy as np
import pandas as pd

from ponderttt.evaluation.flops import policy_flops
from ponderttt.models.policy_network import PolicyNetworkConfig
from ponderttt.report.display import markdown, renderer
from ponderttt.report.display.claims import signed_interval
from ponderttt.result import Result

NETWORK = PolicyNetworkConfig()
DECISIONS = {
    "PPO": policy_flops(**dataclasses.asdict(NETWORK)),
    "bandit": policy_flops(NETWORK.features, hidden=0, layers=0, actions=NETWORK.actions),
}
"""FLOPs of one decision."""
REFERENCES = {"oracle": "#1b1b1b", "control": renderer.GREY}
PALETTE = (
    renderer.BLUE, renderer.VERMILION, renderer.GREEN, renderer.ORANGE, renderer.SKY,
    renderer.PURPLE, "#8b6d3f", "#4d4d80",
)  # fmt: skip


NAMES = {
    "control": "best open-loop policy",
    "kind of text": "per-source schedule",
    "best schedule": "mixture of allocations",
    "one step": "one-step lookahead",
    "entropy": "entropy threshold",
    "loss": "loss threshold",
    "gradient norm": "gradient-norm threshold",
    "perplexity": "perplexity threshold",
}
"""What pages call methods and candidates; others are called what they are in the tables."""


def label(name: str) -> str:
    """What a table calls a method or a candidate."""
    return NAMES.get(name, name)


def named(method: str) -> str:
    """A method in a sentence."""
    return method if method.startswith("PPO") else f"the {label(method)}"


def streams(result: Result) -> list[str]:
    """The streams of a result; the first is the main one."""
    return list(result.config["streams"])


def middle(result: Result) -> float:
    """The budget that is looked at more closely."""
    budgets = result.config["budgets"]
    return budgets[len(budgets) // 2]


def methods(result: Result) -> list[str]:
    """The methods that are compared, without control and oracle."""
    names = result.tables["documents"]["method"].unique()
    return [name for name in names if name not in REFERENCES]


def frontier(result: Result, learned: pd.DataFrame | None = None) -> alt.FacetChart:
    """Gain over never updating against the cost that was really paid, on the test documents.

    `learned` holds points (stream, method, cost, loss) of methods that have no row in `points`.
    """
    points, best = result.tables["points"], result.tables["frontier"]
    skip = best[best["method"] == "SKIP"].set_index("stream")["loss"]
    columns = ["stream", "method", "cost", "loss"]
    parts = [points[points["chosen"]][columns], best[best["method"] == "oracle"][columns]]
    if learned is not None:
        parts.append(learned[columns])
    data = pd.concat(parts)
    data = data.assign(gain=data["stream"].map(skip) - data["loss"])
    data = data[data["cost"] <= 7.5].round(5)
    domain = ["oracle", "control", *methods(result)]
    base = alt.Chart(data).encode(
        x=alt.X(
            "cost:Q",
            title="cost on the test documents (nominal, a unit)",
            scale=alt.Scale(domain=[1, 7.5], nice=False),
        ),
        y=alt.Y("gain:Q", title="gain over SKIP (nats per token)"),
        color=alt.Color("method:N", title=None, scale=_scale(domain), legend=_legend()),
        tooltip=["method:N", *(alt.Tooltip(f"{c}:Q", format=".4f") for c in ("cost", "gain"))],
    )
    return (
        alt.layer(base.mark_line(strokeWidth=1.8), base.mark_point(filled=True, size=22, opacity=1))
        .properties(width=290, height=240)
        .facet(column=alt.Column("stream:N", title=None, sort=streams(result)))
        .resolve_scale(y="independent")
        .properties(
            title=alt.Title(
                "Which policy gains most at equal cost?",
                subtitle="A point for each budget that a method was calibrated to. Scales differ.",
            )
        )
    )


def _scale(domain: list[str]) -> alt.Scale:
    others = iter(PALETTE)
    return alt.Scale(domain=domain, range=[REFERENCES.get(name) or next(others) for name in domain])


def _legend() -> alt.Legend:
    return alt.Legend(columns=5)


def gap_chart(result: Result) -> alt.FacetChart:
    """The share of the gap that each method captures, with intervals."""
    table = result.tables["gaps"]
    data = table[table["method"] != "oracle"].dropna(subset="share")
    data = data[["stream", "budget", "method", "share", "low", "high", "n"]].round(4)
    drawn = {f"drawn_{c}": data[c].clip(-1.5, 1.5) for c in ("share", "low", "high")}
    data = data.assign(**drawn)
    names = methods(result)
    base = alt.Chart().encode(
        y=alt.Y("method:N", title=None, sort=names),
        color=alt.Color("method:N", title=None, scale=_scale(names), legend=None),
    )
    axis = alt.Axis(format="%", values=[-1, 0, 1])
    tooltip = [
        "method:N",
        *(alt.Tooltip(f"{c}:Q", format="+.2f") for c in ("share", "low", "high")),
    ]
    return (
        alt.layer(
            renderer.zero_rule("x"),
            base.mark_rule(strokeWidth=1.6).encode(x="drawn_low:Q", x2="drawn_high:Q"),
            base.mark_point(filled=True, size=50, opacity=1).encode(
                x=alt.X("drawn_share:Q", title="share of the gap", axis=axis),
                tooltip=tooltip,
            ),
            data=data,
        )
        .properties(width=190, height=26 * len(names) + 14)
        .facet(
            column=alt.Column("budget:O", title="budget (mean cost a unit)"),
            row=alt.Row("stream:N", title=None, sort=streams(result)),
        )
        .properties(
            title=alt.Title(
                "How much of the gap does each capture?",
                subtitle="0 is the best open-loop policy, 100 % the oracle, all at equal "
                "cost; drawn within ±150 %.",
            )
        )
    )


def gap_table(result: Result) -> markdown.Markdown:
    """Two tables at equal cost: shares of the gap; gains over the control, costs and p."""
    table, costs = result.tables["gaps"], _costs(result)
    budgets = [f"{b:g}" for b in result.config["budgets"]]
    shares, numbers = [], []
    for (stream, method), part in table[table["method"] != "oracle"].groupby(
        ["stream", "method"], sort=False
    ):
        rows = part.to_dict("records")
        names = [str(stream), label(str(method))]
        shares.append(names + ["–" if np.isnan(row["share"]) else share(row) for row in rows])
        paid = [costs.get((stream, method, row["budget"]), np.nan) for row in rows]
        numbers.append(
            names
            + [_number(1e3 * row["gain"], "+.1f") for row in rows]
            + [_number(cost, ".2f") for cost in paid]
            + [_number(row["p_holm"], ".3f") for row in rows]
        )
    heads = [f"{what} {b}" for what in ("gain", "cost", "p") for b in budgets]
    return markdown.join(
        "**The gap captured** at equal cost on the test documents: the share of what lies between "
        "the best open-loop policy and the oracle, with its 95 % interval by document, at each "
        "budget. Losses are read off each method's own cost curve; – is out of its reach. "
        "Intervals resample test documents, each charged for what it cost beyond the budget; "
        "calibration and training are as they are.",
        markdown.table(("stream", "method", *(f"budget {b}" for b in budgets)), shares, left=2),
        "**The same in numbers**, at each budget. *Gain*: over the best open-loop policy, in "
        "thousandths of a nat per token. *Cost*: what the policy, calibrated on validation "
        "documents, really spent on the test documents (nominal, a unit), before its loss was read "
        "off at the budget. *p*: permutation test against the best open-loop policy, after Holm.",
        markdown.table(("stream", "method", *heads), numbers, left=2),
    )


def _costs(result: Result) -> pd.Series:
    """What each method really spent on the test documents, by stream, method and budget."""
    keys = ["stream", "method", "budget"]
    points = result.tables["points"]
    chosen = points[points["chosen"]].set_index(keys)["cost"]
    if "seeds" not in result.tables:
        return chosen
    seeds = result.tables["seeds"].assign(method="PPO")
    return pd.concat([chosen, seeds.groupby(keys)["cost"].mean()])


def ledger_table(result: Result) -> markdown.Markdown:
    """Every method at the middle budget of the main stream, in the four ledgers."""
    stream, budget, units = streams(result)[0], middle(result), result.tables["unit_costs"]
    table = result.tables["documents"]
    here = table[(table["stream"] == stream) & (table["budget"] == budget)]
    means = here.groupby("method")[["steps", "cost"]].mean()
    every = [f"all {name}" for name in units["action"]]
    rows = list(zip(every, units["steps"].astype(float), units["nominal"], strict=True))
    rows += [(name, *means.loc[name]) for name in ("control", *methods(result), "oracle")]
    cells = []
    for name, taken, nominal in rows:
        adapter, model, seconds = (
            np.interp(taken, units["steps"], units[ledger])
            for ledger in ("adapter", "model", "seconds")
        )
        model += DECISIONS.get(name, 0.0)
        large = [adapter / 1e9, model / 1e9, 1e3 * seconds]
        cells.append(
            [label(name), *(_number(x, ".2f") for x in (taken, nominal))]
            + [_number(x, ".0f" if x >= 100 else ".3g") for x in large]
        )
    return markdown.join(
        f"**In four ledgers** ({stream}, budget {budget:g}), a unit of "
        f"{result.config['unit_size']} tokens: nominal costs, by which policies are compared; "
        "FLOPs that the adapter adds, and of all there is to run, deciding included; milliseconds "
        "on this machine, a document read alone, deciding left out. *All* takes the action on the "
        "last unit too. Methods stand at the budget on their own cost curves; their FLOPs follow "
        "from their mean steps, and so do their milliseconds, on the line through the actions "
        "that were measured.",
        markdown.table(
            ("", "steps", "nominal", "adapter GFLOP", "model GFLOP", "ms"), cells, left=1
        ),
    )


def _number(value: float, form: str) -> str:
    return "–" if value is None or np.isnan(value) else format(value, form)


def share(row: dict) -> str:
    """A share of the gap with its interval, in per cent."""
    text = signed_interval(*(100 * row[key] for key in ("share", "low", "high")), digits=0)
    return text.replace(" [", " % [")
