"""The gating page in charts; titles ask the question, intervals are drawn."""

import altair as alt
import pandas as pd

from ponderttt.report.display import renderer
from ponderttt.report.display.equal_cost import streams
from ponderttt.result import Result


def signals(result: Result) -> alt.FacetChart:
    """Rank correlation of each signal with what an update truly gains, by kind of text."""
    table = result.tables["signals"]
    data = table[table["stream"] == streams(result)[0]]
    sources = [*dict.fromkeys(data["source"])]
    data = data[["target", "signal", "source", "rho", "low", "high"]].round(4)
    base = alt.Chart().encode(
        y=alt.Y("source:N", title=None, sort=sources),
        color=alt.Color(
            "source:N",
            title=None,
            legend=None,
            scale=alt.Scale(
                domain=sources, range=[*renderer.SOURCE_COLOURS[: len(sources) - 1], "#1b1b1b"]
            ),
        ),
    )
    numbers = [alt.Tooltip(f"{c}:Q", format="+.2f") for c in ("rho", "low", "high")]
    return (
        alt.layer(
            renderer.zero_rule("x"),
            base.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q"),
            base.mark_point(filled=True, size=40, opacity=1).encode(
                x=alt.X(
                    "rho:Q", title="rank correlation", scale=alt.Scale(domain=[-1, 1], nice=False)
                ),
                tooltip=["signal:N", "source:N", *numbers],
            ),
            data=data,
        )
        .properties(width=125, height=95)
        .facet(
            column=alt.Column("signal:N", title=None, sort=list(dict.fromkeys(data["signal"]))),
            row=alt.Row("target:N", title=None),
        )
        .properties(
            title=alt.Title(
                f"Does a signal tell what an update gains? ({streams(result)[0]})",
                subtitle="UPDATE_1 over SKIP, on the next unit and on all that follow; 95 % "
                "intervals by document.",
            )
        )
    )


def calibration(result: Result) -> alt.FacetChart:
    """The mix of actions on test documents, where validation documents were given the target."""
    table = result.tables["calibration"]
    actions = list(renderer.ACTION_COLOURS)
    table = table.assign(rank=table["action"].map(actions.index)).round(4)
    table["signal"] = table["signal"].astype(str)
    target = (
        table[["stream", "action", "rank", "target"]]
        .drop_duplicates()
        .rename(columns={"target": "share"})
        .assign(signal="target")
    )
    data = pd.concat([target, table])
    return (
        alt.Chart(data[["stream", "signal", "action", "rank", "share"]])
        .mark_bar()
        .encode(
            y=alt.Y("signal:N", title=None, sort=list(dict.fromkeys(data["signal"]))),
            x=alt.X(
                "share:Q",
                title="share of test units",
                axis=alt.Axis(format="%", tickCount=4),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color("action:N", title=None, scale=renderer.action_scale(actions)),
            order=alt.Order("rank:Q"),
            tooltip=["signal:N", "action:N", alt.Tooltip("share:Q", format=".2f")],
        )
        .properties(width=220, height=110)
        .facet(column=alt.Column("stream:N", title=None, sort=streams(result)))
        .properties(
            title=alt.Title(
                "Do thresholds keep their mix on other text?",
                subtitle="Thresholds that gave the target mix on validation documents.",
            )
        )
    )


def drift(result: Result) -> alt.FacetChart:
    """The gate's threshold before each test document, and the kind of text that follows."""
    data = result.tables["drift"].round(4)
    sources = list(dict.fromkeys(data["source"]))
    base = alt.Chart().encode(
        x=alt.X("document:Q", title="test document", axis=alt.Axis(format="d", tickMinStep=1)),
        y=alt.Y("threshold:Q", title="threshold (nats)", scale=alt.Scale(zero=False)),
    )
    tooltip = [
        "source:N", "document:Q",
        *(alt.Tooltip(f"{c}:Q", format=".2f") for c in ("threshold", "running_share", "updated")),
    ]  # fmt: skip
    return (
        alt.layer(
            base.mark_line(strokeWidth=1.5, color=renderer.GREY),
            base.mark_point(filled=True, size=50, opacity=1).encode(
                color=alt.Color("source:N", title=None, scale=renderer.source_scale(sources)),
                tooltip=tooltip,
            ),
            data=data,
        )
        .properties(width=290, height=190)
        .facet(column=alt.Column("stream:N", title=None, sort=streams(result)))
        .properties(
            title=alt.Title(
                "Does the gate's threshold settle?",
                subtitle="The inner-loss gate that aims at half of the units; one dot a document.",
            )
        )
    )
