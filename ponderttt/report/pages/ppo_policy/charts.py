"""The ppo_policy page in charts; titles ask the question, intervals are drawn."""

import altair as alt
import numpy as np
import pandas as pd

from ponderttt.report.display import equal_cost as contest
from ponderttt.report.display import renderer
from ponderttt.result import Result

PANELS = {
    "reward": "gain on the next unit (nats)",
    "cost": "cost of a decision (nominal)",
    "multiplier": "multiplier",
    "entropy": "entropy of the policy (nats)",
    "kl": "KL from the collecting policy",
    "explained_variance": "variance explained by the critic",
}
FORMS = {"positional": renderer.BLUE, "velocity": renderer.VERMILION}
POINTS = 24
"""Iterations drawn of each line."""


def frontier(result: Result) -> alt.FacetChart:
    """All policies: gain over never updating against the cost really paid."""
    table = result.tables["learned"]
    at = table[np.isclose(table["target"], table["budget"])]
    means = at.groupby(["stream", "budget"], sort=False)[["cost", "loss"]].mean().reset_index()
    return contest.frontier(result, means.assign(method="PPO"))


def learning(result: Result) -> alt.ConcatChart:
    """How training went: mean over seeds and the range of them, at the middle budget."""
    data = _thinned(_main(result, "positional"))
    rows = [
        {
            "iteration": iteration,
            "quantity": name,
            "mean": float(part[name].mean()),
            "low": float(part[name].min()),
            "high": float(part[name].max()),
        }
        for iteration, part in data.groupby("iteration")
        for name in PANELS
    ]
    table = pd.DataFrame(rows).round(5)
    panels = []
    for name, title in PANELS.items():
        base = alt.Chart(table[table["quantity"] == name]).encode(
            x=alt.X("iteration:Q", axis=alt.Axis(format="d", tickMinStep=1, tickCount=3))
        )
        y = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False))
        band = base.mark_area(opacity=0.2, color=renderer.BLUE).encode(
            y=alt.Y("low:Q"), y2="high:Q"
        )
        line = base.mark_line(strokeWidth=1.8, color=renderer.BLUE).encode(
            y=y, tooltip=["iteration:Q", alt.Tooltip("mean:Q", format=".4f")]
        )
        panels.append(alt.layer(band, line).properties(width=195, height=130))
    return alt.concat(*panels, columns=3).properties(
        title=alt.Title(
            f"Does it learn? ({contest.streams(result)[0]}, budget {contest.middle(result):g})",
            subtitle=f"Mean of {result.config['seeds']} seeds; bands from lowest to highest.",
        )
    )


def budget(result: Result) -> alt.LayerChart:
    """The violation of the budget over training: positional PID and the velocity form."""
    frames = []
    for form in FORMS:
        data = _thinned(_main(result, form))
        grouped = data.groupby("iteration")["violation"]
        frames.append(grouped.agg(["mean", "min", "max"]).reset_index().assign(form=form))
    table = pd.concat(frames).round(4)
    base = alt.Chart(table).encode(
        x=alt.X("iteration:Q", axis=alt.Axis(format="d", tickMinStep=1)),
        color=alt.Color(
            "form:N",
            title="PID",
            scale=alt.Scale(domain=list(FORMS), range=list(FORMS.values())),
        ),
    )
    axis = alt.Axis(format="%")
    return alt.layer(
        renderer.zero_rule("y"),
        base.mark_area(opacity=0.15).encode(
            y=alt.Y("min:Q", title="over the budget", axis=axis), y2="max:Q"
        ),
        base.mark_line(strokeWidth=1.8).encode(
            y="mean:Q", tooltip=["form:N", "iteration:Q", alt.Tooltip("mean:Q", format=".1%")]
        ),
    ).properties(
        width=560,
        height=210,
        title=alt.Title(
            "Does the multiplier hold the budget?",
            subtitle="Relative violation in each rollout: mean of the seeds, lowest to highest.",
        ),
    )


def ablation(result: Result) -> alt.LayerChart:
    """What is lost without a group of features, paired by document."""
    table = result.tables["ablation"]
    table = table[table["without"] != "none"].dropna(subset="lost")
    data = table[["without", "share", "lost", "lost_low", "lost_high"]].round(5)
    base = alt.Chart(data).encode(y=alt.Y("without:N", title=None, sort=list(data["without"])))
    return alt.layer(
        renderer.zero_rule("x"),
        base.mark_rule(strokeWidth=1.6, color=renderer.BLUE).encode(
            x="lost_low:Q", x2="lost_high:Q"
        ),
        base.mark_point(filled=True, size=50, opacity=1, color=renderer.BLUE).encode(
            x=alt.X("lost:Q", title="lost without it (nats per token)"),
            tooltip=[
                "without:N",
                alt.Tooltip("lost:Q", format="+.4f"),
                alt.Tooltip("share:Q", title="share of the gap left", format=".0%"),
            ],
        ),
    ).properties(
        width=420,
        height=170,
        title=alt.Title(
            "Which features does it need?",
            subtitle=f"Trained without each group ({contest.streams(result)[0]}, budget "
            f"{contest.middle(result):g}); paired 95 % intervals by document, mean over seeds.",
        ),
    )


def _main(result: Result, form: str) -> pd.DataFrame:
    table = result.tables["history"]
    here = (table["stream"] == contest.streams(result)[0]) & (table["form"] == form)
    return table[here & (table["budget"] == contest.middle(result))]


def _thinned(table: pd.DataFrame) -> pd.DataFrame:
    last = int(table["iteration"].max())
    kept = np.unique(np.linspace(1, last, POINTS).round().astype(int))
    return table[table["iteration"].isin(kept)]
