"""The comparison page in charts; titles ask the question, intervals are drawn."""

import altair as alt
import pandas as pd

from ponderttt.experiments.comparison.methods import RANDOM
from ponderttt.report.display import markdown, renderer
from ponderttt.report.pages.comparison.names import AGAINST, FAMILIES, STEPS, family, label
from ponderttt.result import Result

LEDGERS = {
    "adapter_flops": "adapter: MFLOP a token",
    "model_flops": "model: MFLOP a token",
    "microseconds": "seconds: µs a token",
}


def _families(data: pd.DataFrame) -> alt.Scale:
    shown = [name for name in FAMILIES if name in set(data["family"])]
    return alt.Scale(domain=shown, range=[FAMILIES[name] for name in shown])


def frontier(result: Result) -> alt.HConcatChart:
    """Test perplexity against cost in three ledgers; the line joins what no other beats."""
    data = result.tables["methods"].copy()
    data["family"] = data["method"].map(family)
    data["name"] = data["method"].map(label)
    data["random_control"] = data["method"].str.startswith(RANDOM)
    data[["adapter_flops", "model_flops"]] /= 1e6
    best = result.tables["frontier"]
    panels = []
    for ledger, title in LEDGERS.items():
        on = set(best[(best["ledger"] == ledger) & best["on_frontier"]]["method"])
        here = data.assign(best=data["method"].isin(on))
        fields = ["name", "family", "random_control", "best", "steps", "perplexity", ledger]
        base = alt.Chart(here[fields].round(4)).encode(
            x=alt.X(f"{ledger}:Q", title=title, scale=alt.Scale(zero=False, padding=12)),
            y=alt.Y("perplexity:Q", title="test perplexity", scale=alt.Scale(zero=False)),
        )
        tooltip = [
            alt.Tooltip("name:N", title="method"),
            alt.Tooltip("steps:Q", title="mean K", format=".2f"),
            alt.Tooltip("perplexity:Q", format=".1f"),
            alt.Tooltip(f"{ledger}:Q", title=title, format=".3f"),
        ]
        line = base.transform_filter("datum.best").mark_line(
            interpolate="step-after", color=renderer.GREY, strokeDash=[4, 3], strokeWidth=1.2
        )
        points = base.mark_point(filled=True, size=70, opacity=0.95).encode(
            color=alt.Color("family:N", title=None, scale=_families(data)),
            shape=alt.Shape(
                "random_control:N",
                title=None,
                legend=None,
                scale=alt.Scale(domain=[False, True], range=["circle", "diamond"]),
            ),
            tooltip=tooltip,
        )
        panels.append(alt.layer(line, points).properties(width=200, height=230))
    return alt.hconcat(*panels).properties(
        title=alt.Title(
            "What does each method buy, for what?",
            subtitle="One dot a method, all its seeds together; diamonds are random controls. "
            "Dashed: the frontier.",
        )
    )


def versus(result: Result) -> alt.FacetChart | markdown.Markdown:
    """How much lower each method's loss is than what it must beat, by seed and document."""
    table = result.tables["tests"].copy()
    if not len(table):
        return markdown.Markdown("No method here has another to be compared with.\n")
    table["gain"] = -1e3 * table["mean"]
    table["low"], table["high"] = -1e3 * table["high"], -1e3 * table["low"]
    table["family"] = table["method"].map(family)
    table["against"] = table["against"].map(AGAINST)
    data = table[["method", "against", "family", "gain", "low", "high", "holm_p"]].round(5)
    order = list(dict.fromkeys(data["method"]))
    base = alt.Chart().encode(
        y=alt.Y("method:N", title=None, sort=order, axis=alt.Axis(labelLimit=260)),
        color=alt.Color("family:N", title=None, scale=_families(data)),
    )
    numbers = [alt.Tooltip(f"{c}:Q", format="+.2f") for c in ("gain", "low", "high")]
    return (
        alt.layer(
            renderer.zero_rule("x"),
            base.mark_rule(strokeWidth=1.6).encode(x="low:Q", x2="high:Q"),
            base.mark_point(filled=True, size=55, opacity=1).encode(
                x=alt.X("gain:Q", title="thousandths of a nat a token"),
                tooltip=["method:N", "against:N", *numbers, alt.Tooltip("holm_p:Q", format=".2g")],
            ),
            data=data,
        )
        .properties(width=270, height=alt.Step(20))
        .facet(column=alt.Column("against:N", title=None, sort=list(AGAINST.values())))
        .resolve_scale(x="independent")
        .properties(
            title=alt.Title(
                "Is it better than the same steps at random, and than four everywhere?",
                subtitle="How much lower its test loss is; 95 % intervals over seeds and texts. "
                "Scales differ.",
            )
        )
    )


def training(result: Result) -> alt.HConcatChart:
    """Training loss of every method, and the mean steps of those that decide."""
    data = result.tables["history"]
    data = data[~data["method"].str.startswith(RANDOM)]
    data = data.assign(family=data["method"].map(family)).round(4)
    x = alt.X("step:Q", title="training step", axis=alt.Axis(tickMinStep=1, format="d"))
    colour = alt.Color("family:N", title=None, scale=_families(data))
    wide = data[["method", "family", "step", "loss"]]
    every = max(1, -(-len(wide) // renderer.MAX_ROWS))
    kept = sorted(wide["step"].unique())[::-1][::every]
    loss = (
        alt.Chart(wide[wide["step"].isin(kept)])
        .mark_line(strokeWidth=1.4, opacity=0.8)
        .encode(
            x=x,
            y=alt.Y("loss:Q", title="training loss (nats a token)", scale=alt.Scale(zero=False)),
            color=colour,
            detail="method:N",
            tooltip=["method:N", "step:Q", alt.Tooltip("loss:Q", format=".3f")],
        )
        .properties(width=310, height=230)
    )
    deciding = data[data["family"].isin(["learned (REINFORCE)", "exact expectation"])]
    steps = (
        alt.Chart(deciding[["method", "family", "step", "steps", "entropy", "price"]])
        .mark_line(strokeWidth=1.6)
        .encode(
            x=x,
            y=alt.Y("steps:Q", title="mean K", scale=alt.Scale(domain=[1, 8], type="log", base=2)),
            color=colour,
            strokeDash=alt.StrokeDash("method:N", legend=None),
            tooltip=[
                "method:N",
                "step:Q",
                *(alt.Tooltip(f"{c}:Q", format=".3f") for c in ("steps", "entropy", "price")),
            ],
        )
        .properties(width=310, height=230)
    )
    return alt.hconcat(loss, steps).properties(
        title=alt.Title(
            "How do the models learn, and what do the policies settle on?",
            subtitle="Means over seeds. All policies begin at equal probabilities, a mean K of "
            "3.75; point at a line for its method.",
        )
    )


def allocation(result: Result) -> alt.Chart:
    """Which options each adaptive method takes on test documents, all TTT layers together."""
    table = result.tables["allocation"].dropna()
    adaptive = table[~table["method"].str.startswith(("uniform", "random"))]
    data = adaptive.groupby(["method", "option"], sort=False, as_index=False)["share"].mean()
    data = data.round(4)
    order = list(dict.fromkeys(data["method"]))
    return (
        alt.Chart(data)
        .mark_bar()
        .encode(
            y=alt.Y("method:N", title=None, sort=order, axis=alt.Axis(labelLimit=260)),
            x=alt.X("share:Q", title="share of test tokens", axis=alt.Axis(format="%")),
            color=alt.Color(
                "option:O",
                title="K",
                scale=alt.Scale(domain=list(STEPS), range=list(STEPS.values())),
            ),
            order=alt.Order("option:Q"),
            tooltip=["method:N", "option:O", alt.Tooltip("share:Q", format=".1%")],
        )
        .properties(
            width=480,
            height=alt.Step(24),
            title=alt.Title("How many steps do tokens get?", subtitle="On test documents."),
        )
    )
