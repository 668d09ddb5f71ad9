"""What the pages that compare policies at equal cost share: frontier, gaps, ledgers."""

import dataclasses

import altair as alt
import numpy as np
import pandas as pd

from ponderttt.evaluation.flops import policy_flops
from ponderttt.models.policy_network import PolicyNetworkConfig
from ponderttt.report.display import markdown, renderer
from ponderttt.report.display.claims import (
    ABOVE_ZERO,
    Claim,
    Evidence,
    Test,
    paired_gain,
    signed_interval,
)
from ponderttt.result import Result

SHARES = Test(ABOVE_ZERO.description, ABOVE_ZERO.decide, "effects are shares of the gap")
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
                "Who gains most at the same cost?",
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
                subtitle="0 is the best uninformed control, 100 % the oracle, all at the same "
                "cost; drawn within ±150 %.",
            )
        )
    )


def gap_table(result: Result) -> markdown.Markdown:
    """Gain over the control at equal cost, share of the gap, and p after Holm."""
    table = result.tables["gaps"]
    points = result.tables["points"]
    chosen = points[points["chosen"]].set_index(["stream", "method", "budget"])["cost"]
    if "seeds" in result.tables:
        seeds = result.tables["seeds"].assign(method="PPO")
        means = seeds.groupby(["stream", "method", "budget"])["cost"].mean()
        chosen = pd.concat([chosen, means])
    rows = []
    for (stream, method), part in table[table["method"] != "oracle"].groupby(
        ["stream", "method"], sort=False
    ):
        cells = []
        for row in part.to_dict("records"):
            cost = chosen.get((stream, method, row["budget"]), np.nan)
            said = f"{_number(-1e3 * row['difference'], '+.1f')} at {_number(cost, '.2f')}"
            p = "" if np.isnan(row["p_holm"]) else f"<br>p {row['p_holm']:.3f}"
            cells.append("out of reach" if np.isnan(row["share"]) else f"{said}<br>{share(row)}{p}")
        rows.append([str(stream), str(method), *cells])
    return markdown.join(
        "**At equal cost** on the test documents, three lines a cell. First the gain over the "
        "control in thousandths of a nat per token, and *at* which (nominal) cost the policy "
        "really was there, calibrated to the budget on validation documents; its loss is read off "
        "its own cost curve. Then the share of the gap from control to oracle with its 95 % "
        "interval by document, and the p of a permutation test against the control after Holm. "
        "Intervals resample test documents, each charged for what it cost beyond the budget; "
        "calibration and training are as they are.",
        markdown.table(
            ("stream", "method", *(f"budget {b:g}" for b in result.config["budgets"])), rows, left=2
        ),
    )


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
            [name, *(_number(x, ".2f") for x in (taken, nominal))]
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


def gap_claims(result: Result, methods: list[str]) -> list[Claim]:
    """That each method does better than the best uninformed control, at the middle budget."""
    table = result.tables["gaps"]
    table = table[table["budget"] == middle(result)]
    return [
        Claim(
            f"{row['stream']}, budget {row['budget']:g}: the {row['method']} captures some of the "
            "gap between the best uninformed control and the oracle.",
            SHARES,
            Evidence(row["share"], row["low"], row["high"], int(row["n"])),
        )
        for row in table.to_dict("records")
        if row["method"] in methods and not np.isnan(row["share"])
    ]


def available_claims(result: Result) -> list[Claim]:
    """That there is a gap at all."""
    table = result.tables["documents"]
    found = []
    for (stream, budget), part in table.groupby(["stream", "budget"], sort=False):
        by = {m: g.set_index(["source", "document"])["priced"] for m, g in part.groupby("method")}
        found.append(
            Claim(
                f"{stream}, budget {budget:g}: there is a gap: the oracle reads better than the "
                "best uninformed control.",
                ABOVE_ZERO,
                paired_gain(by["control"] - by["oracle"]),
            )
        )
    return found


def check_contest(result: Result) -> list[str]:
    """What must hold on every machine of a comparison: shapes, orderings, no measurement."""
    documents, points = result.tables["documents"], result.tables["points"]
    means = documents.dropna(subset="loss").groupby(["stream", "budget", "method"])["loss"].mean()
    table = means.unstack("method")
    others = table.drop(columns="oracle").min(axis=1)
    curve = result.tables["frontier"]
    curves = [
        part.sort_values("cost")["loss"].to_numpy()
        for _, part in curve[curve["method"] == "oracle"].groupby("stream")
    ]
    one = points[points["chosen"]].groupby(["stream", "method", "budget"]).size()
    return [f"{name}: {len(table)} rows" for name, table in sorted(result.tables.items())] + [
        f"methods: {', '.join(documents['method'].unique())}",
        "no method reads better than the oracle at the same cost: "
        f"{bool((table['oracle'] <= others + 2e-3).all())}",
        "a larger budget never costs the oracle: "
        f"{all((np.diff(curve) < 1e-6).all() for curve in curves)}",
        f"one candidate of each method is chosen at each budget: {bool((one == 1).all())}",
    ]
