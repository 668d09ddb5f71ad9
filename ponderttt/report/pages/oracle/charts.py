"""The oracle page in charts; titles ask the question, intervals are drawn."""

import altair as alt
import pandas as pd

from ponderttt.policies.features import GROUPS
from ponderttt.report.display import renderer
from ponderttt.report.display.equal_cost import middle
from ponderttt.result import Result

METHOD_COLOURS = {
    "oracle": renderer.BLUE,
    "one step": renderer.SKY,
    "control": renderer.GREY,
    "always one action": renderer.VERMILION,
}


def frontier(result: Result) -> alt.FacetChart:
    """Gain over never updating against cost: the oracle, one-step search, controls, actions."""
    table = result.tables["frontier"]
    skip = table[table["method"] == "SKIP"].set_index("stream")["loss"]
    data = table.assign(gain=table["stream"].map(skip) - table["loss"])
    data["label"] = data["method"].where(data["method"].str.startswith("UPDATE"), "")
    data["kind"] = data["method"].where(data["budget"].notna(), "always one action")
    base = alt.Chart().encode(
        x=alt.X("cost:Q", title="cost (nominal, mean per unit)", scale=alt.Scale(zero=False)),
        y=alt.Y("gain:Q", title="gain over SKIP (nats per token)"),
        color=alt.Color(
            "kind:N",
            title=None,
            scale=alt.Scale(domain=list(METHOD_COLOURS), range=list(METHOD_COLOURS.values())),
        ),
    )
    searched = base.transform_filter("datum.kind != 'always one action'")
    fixed = base.transform_filter("datum.kind == 'always one action'")
    tooltip = ["method:N", *(alt.Tooltip(f"{c}:Q", format=".4f") for c in ("cost", "gain", "loss"))]
    return (
        alt.layer(
            searched.mark_line(strokeWidth=2),
            searched.mark_point(filled=True, size=28, opacity=1).encode(tooltip=tooltip),
            fixed.mark_point(filled=True, size=55, opacity=1).encode(tooltip=tooltip),
            fixed.mark_text(align="left", dx=7, dy=4, fontSize=10).encode(text="label:N"),
            data=data[["stream", "method", "kind", "label", "cost", "gain", "loss"]],
        )
        .properties(width=300, height=230)
        .facet(column=alt.Column("stream:N", title=None, sort=result.config["streams"]))
        .properties(
            title=alt.Title(
                "How much better can the same cost be spent?",
                subtitle="Mean over test documents, kinds of text weighing the same.",
            )
        )
    )


def gain_by_document(result: Result) -> alt.FacetChart:
    """What each document gains, or gives up, where the oracle spends the stream's budget."""
    wide = _middle(result, result.tables["documents"]).pivot(
        index=["stream", "source", "path", "document"], columns="method", values=["loss", "cost"]
    )
    gain = wide["loss", "control"] - wide["loss", "oracle"]
    spent = wide["cost", "oracle"] - wide["cost", "control"]
    table = pd.DataFrame({"gain": gain, "spent": spent}).reset_index()
    sources = list(table["source"].unique())
    colour = alt.Color(
        "source:N",
        title=None,
        scale=renderer.source_scale(sources),
    )
    base = alt.Chart().encode(
        x=alt.X("spent:Q", title="cost moved to the document (per unit)"),
        y=alt.Y("gain:Q", title="gain over the control (nats per token)"),
        color=colour,
    )
    tooltip = [
        "source:N", "path:N", *(alt.Tooltip(f"{c}:Q", format="+.4f") for c in ("spent", "gain"))
    ]  # fmt: skip
    columns = ["stream", "source", "path", "spent", "gain"]
    return (
        alt.layer(
            renderer.zero_rule("x"),
            renderer.zero_rule("y"),
            base.mark_point(filled=True, size=45, opacity=0.8).encode(tooltip=tooltip),
            data=table[columns],
        )
        .properties(width=300, height=230)
        .facet(column=alt.Column("stream:N", title=None, sort=result.config["streams"]))
        .properties(
            title=alt.Title(
                f"Which documents are the steps moved to? (budget {middle(result):g})",
                subtitle="One dot a test document; the stream as a whole costs what the control's "
                "does.",
            )
        )
    )


def allocation(result: Result) -> alt.FacetChart:
    """How often the oracle takes each action, by kind of text and position in the document."""
    table = _middle(result, result.tables["allocations"])
    table = table[table["stream"] == result.config["streams"][0]]
    actions = list(renderer.ACTION_COLOURS)
    table = table.assign(rank=table["action"].map(actions.index))
    return (
        alt.Chart(table[["source", "unit", "action", "rank", "share"]])
        .mark_bar()
        .encode(
            x=alt.X("unit:O", title="unit of the document", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("share:Q", title="share of documents", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color(
                "action:N",
                title=None,
                scale=renderer.action_scale(actions),
            ),
            order=alt.Order("rank:Q"),
            tooltip=["source:N", "unit:O", "action:N", alt.Tooltip("share:Q", format=".2f")],
        )
        .properties(width=150, height=170)
        .facet(column=alt.Column("source:N", title=None, sort=None))
        .properties(
            title=alt.Title(
                f"What does the oracle do? ({result.config['streams'][0]}, budget "
                f"{middle(result):g})",
                subtitle="The last unit is never learned from: nothing comes after it.",
            )
        )
    )


def who_gains(result: Result) -> alt.FacetChart:
    """Rank correlation of each feature with the oracle's steps and with the one-step gain."""
    table = result.tables["correlations"]
    table = table[table["stream"] == result.config["streams"][0]]
    groups = {name: group for group, names in GROUPS.items() for name in names}
    data = table.assign(group=table["feature"].map(groups))
    base = alt.Chart().encode(
        y=alt.Y("feature:N", title=None, sort=list(groups)),
        color=alt.Color("group:N", title=None, sort=list(GROUPS), legend=alt.Legend(columns=6)),
    )
    numbers = [alt.Tooltip(f"{c}:Q", format="+.2f") for c in ("rho", "low", "high")]
    return (
        alt.layer(
            renderer.zero_rule("x"),
            base.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q"),
            base.mark_point(filled=True, size=40, opacity=1).encode(
                x=alt.X("rho:Q", title="rank correlation over units"),
                tooltip=["feature:N", *numbers],
            ),
            data=data,
        )
        .properties(width=250, height=430)
        .facet(column=alt.Column("target:N", title=None, sort=list(data["target"].unique())))
        .properties(
            title=alt.Title(
                f"Which features tell who gains? ({result.config['streams'][0]})",
                subtitle="Features as seen where every unit takes UPDATE_1; 95 % intervals by "
                "document.",
            )
        )
    )


def _middle(result: Result, table: pd.DataFrame) -> pd.DataFrame:
    return table[table["budget"] == middle(result)]
