"""The token oracle's page in charts; titles ask the question, intervals are drawn."""

import altair as alt
import numpy as np
import pandas as pd

from ponderttt.report.display import renderer
from ponderttt.result import Result


def best_steps(result: Result) -> alt.HConcatChart:
    """How often each K is the best at a position, and what it gains over the reference."""
    optimal = result.tables["token_optimal"]
    x = alt.X(
        "option:N",
        title="steps at the token",
        sort=list(optimal["option"]),
        axis=alt.Axis(labelAngle=0),
    )
    share = (
        alt.Chart(optimal.round(4))
        .mark_bar(color=renderer.SKY)
        .encode(
            x=x,
            y=alt.Y("share:Q", title="how often it is best", axis=alt.Axis(format="%")),
            tooltip=["option:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    base = alt.Chart(optimal.assign(**{c: 1e3 * optimal[c] for c in ("gain", "low", "high")}))
    gain = alt.layer(
        renderer.zero_rule("y"),
        base.mark_rule(color=renderer.BLUE).encode(x=x, y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=50, opacity=1, color=renderer.BLUE).encode(
            x=x,
            y=alt.Y("gain:Q", title="mean gain over K4 (thousandths of a nat)"),
            tooltip=[
                "option:N",
                *(alt.Tooltip(f"{c}:Q", format="+.2f") for c in ("gain", "low", "high")),
            ],
        ),
    )
    return alt.hconcat(
        share.properties(width=230, height=220), gain.properties(width=230, height=220)
    ).properties(
        title=alt.Title(
            "Which number of steps is best at a token?",
            subtitle="One position at a time is changed, all others take four steps; gains over "
            "the horizon, 95 % intervals by text.",
        )
    )


def frontier(result: Result) -> alt.Chart:
    """The most that choosing K by token gains at each mean K, beside one K for all positions."""
    names = {"oracle": "chosen by token, the text known", "same_for_all": "the same for all tokens"}
    curves = result.tables["token_frontier"].melt(
        "mean_steps", var_name="chosen", value_name="gain"
    )
    curves = curves.assign(chosen=curves["chosen"].map(names), gain=1e3 * curves["gain"]).round(4)
    colours = alt.Scale(domain=list(names.values()), range=[renderer.VERMILION, renderer.GREY])
    return (
        alt.Chart(curves)
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("mean_steps:Q", title="mean steps a token"),
            y=alt.Y("gain:Q", title="gain over K4 (thousandths of a nat)"),
            color=alt.Color(
                "chosen:N", title=None, scale=colours, legend=alt.Legend(columns=1, labelLimit=260)
            ),
            tooltip=["chosen:N", "mean_steps:Q", alt.Tooltip("gain:Q", format="+.2f")],
        )
        .properties(
            width=420,
            height=240,
            title=alt.Title(
                "What could choosing by token gain?",
                subtitle="Gains of changing one position at a time are taken to add up.",
            ),
        )
    )


def correlations(result: Result) -> alt.LayerChart:
    """Whether the loss of the token just read goes with its best K, or with what K8 gains."""
    base = alt.Chart(result.tables["token_difficulty"].round(4)).encode(
        y=alt.Y("target:N", title=None, axis=alt.Axis(labelLimit=260))
    )
    return alt.layer(
        renderer.zero_rule("x"),
        base.mark_rule(color=renderer.BLUE).encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=50, opacity=1, color=renderer.BLUE).encode(
            x=alt.X("rho:Q", title="rank correlation with the loss of the token just read"),
            tooltip=[
                "target:N",
                *(alt.Tooltip(f"{c}:Q", format="+.3f") for c in ("rho", "low", "high")),
            ],
        ),
    ).properties(
        width=420,
        height=90,
        title=alt.Title(
            "Do hard tokens want more steps?", subtitle="Over positions; 95 % intervals by text."
        ),
    )


def by_difficulty(result: Result) -> alt.Chart:
    """Which K is best among tokens of each tenth of difficulty."""
    tokens, names = result.tables["tokens"], list(result.tables["token_optimal"]["option"])
    tenth = (10 * tokens["difficulty"].rank(method="first", pct=True)).apply(np.ceil).astype(int)
    best = pd.DataFrame({"tenth": tenth, "option": tokens[names].idxmin(axis=1)})
    data = best.value_counts(["tenth", "option"]).rename("share").reset_index()
    data["share"] /= data.groupby("tenth")["share"].transform("sum")
    return (
        alt.Chart(data.round(4))
        .mark_bar()
        .encode(
            x=alt.X("tenth:O", title="tenth of tokens by loss", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("share:Q", title="best K", axis=alt.Axis(format="%")),
            color=alt.Color("option:N", title=None, sort=names),
            tooltip=["tenth:O", "option:N", alt.Tooltip("share:Q", format=".1%")],
        )
        .properties(
            width=420,
            height=220,
            title=alt.Title("Do hard tokens want more steps?", subtitle="10: the hardest tenth."),
        )
    )
