"""The oracle page's part on single tokens: which K is best where, and what could be gained."""

import altair as alt
import numpy as np
import pandas as pd

from ponderttt.report.display import renderer
from ponderttt.report.display.claims import ABOVE_ZERO, CORRELATED, Claim, Evidence
from ponderttt.result import Result


def token_oracle(result: Result) -> alt.HConcatChart:
    """How often each K is best and what it gains; the most that choosing by token could gain."""
    return draw(result.tables)


def draw(tables: dict[str, pd.DataFrame]) -> alt.HConcatChart:
    """`token_oracle` of the tables alone."""
    optimal, frontier = tables["token_optimal"], tables["token_frontier"]
    order = list(optimal["option"])
    x = alt.X("option:N", title="steps at the token", sort=order, axis=alt.Axis(labelAngle=0))
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
    names = {"oracle": "chosen by token, the text known", "same_for_all": "the same for all tokens"}
    curves = frontier.melt("mean_steps", var_name="way", value_name="gain")
    curves = curves.assign(way=curves["way"].map(names), gain=1e3 * curves["gain"]).round(4)
    best = (
        alt.Chart(curves)
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("mean_steps:Q", title="mean steps a token"),
            y=alt.Y("gain:Q", title="gain over K4 (thousandths of a nat)"),
            color=alt.Color(
                "way:N",
                title=None,
                scale=alt.Scale(
                    domain=list(names.values()), range=[renderer.VERMILION, renderer.GREY]
                ),
                legend=alt.Legend(columns=1, labelLimit=260),
            ),
            tooltip=["way:N", "mean_steps:Q", alt.Tooltip("gain:Q", format="+.2f")],
        )
    )
    return alt.hconcat(
        share.properties(width=170, height=200),
        gain.properties(width=170, height=200),
        best.properties(width=240, height=200),
    ).properties(
        title=alt.Title(
            "And token by token?",
            subtitle="A small model with TTT layers; one position at a time is changed, all others "
            "take four steps. Gains over the horizon.",
        )
    )


def difficulty(tokens: pd.DataFrame, optimal: pd.DataFrame) -> alt.Chart:
    """Which K is best among tokens of each tenth of difficulty."""
    names = list(optimal["option"])
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


def token_claims(tables: dict[str, pd.DataFrame]) -> list[Claim]:
    """Whether more steps at a token help what follows, and whether difficulty tells where."""
    optimal = tables["token_optimal"].set_index("option")
    last = optimal.iloc[-1]
    found = [
        Claim(
            f"single tokens: {last.name} at a token reads what follows better than K4 there "
            "(effect over the horizon).",
            ABOVE_ZERO,
            Evidence(last["gain"], last["low"], last["high"], int(last["documents"])),
        )
    ]
    return found + [
        Claim(
            f"single tokens: the higher the loss of the token just read, the higher the "
            f"{row['target']}.",
            CORRELATED,
            Evidence(row["rho"], row["low"], row["high"], int(row["n"])),
        )
        for row in tables["token_difficulty"].to_dict("records")
    ]
