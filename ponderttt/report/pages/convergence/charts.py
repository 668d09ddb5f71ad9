"""The convergence page in charts; titles ask the question, theory is dashed."""

import altair as alt
import numpy as np

from ponderttt.report.display import renderer
from ponderttt.report.pages.convergence.names import PANELS, TRAININGS, labels
from ponderttt.result import Result

TRAINING_COLOURS = dict(
    zip(
        TRAININGS.values(),
        (
            renderer.BLUE, renderer.SKY, renderer.GREEN, renderer.VERMILION, renderer.GREY,
            renderer.PURPLE,
        ),
        strict=True,
    )
)  # fmt: skip


def gap_by_steps(result: Result) -> alt.HConcatChart:
    """Distance to the limit and inner loss on real hidden states, against K."""
    data = result.tables["descents"].groupby(["source", "steps"], sort=False, as_index=False)
    means = data[["gap", "expected", "excess", "dual"]].mean()
    means["dual"] = means["dual"].where(means["steps"] == 1)
    sources, steps = list(means["source"].unique()), [int(k) for k in means["steps"].unique()]
    base = alt.Chart(means).encode(
        x=alt.X("steps:Q", title="inner steps K", axis=alt.Axis(values=steps)),
        color=alt.Color(
            "source:N",
            title=None,
            scale=renderer.source_scale(sources),
        ),
    )
    log = alt.Scale(type="log", nice=False)
    gap = alt.Y("gap:Q", title="distance to the limit", scale=log)
    expected = alt.Y("expected:Q", title="distance to the limit", scale=log)
    tooltip = [
        "source", "steps", *(alt.Tooltip(f"{c}:Q", format=".4f") for c in ("gap", "expected")),
    ]  # fmt: skip
    left = alt.layer(
        base.mark_line(strokeDash=[5, 4], opacity=0.7).encode(y=expected),
        base.mark_point(filled=True, size=45, opacity=1).encode(y=gap, tooltip=tooltip),
        base.transform_filter("datum.dual != null")
        .mark_point(shape="square", size=170, strokeWidth=1.6)
        .encode(y="dual:Q"),
    )
    right = base.mark_line(point=True).encode(
        y=alt.Y("excess:Q", title="inner loss above the limit's", scale=log)
    )
    return alt.hconcat(
        left.properties(width=300, height=220), right.properties(width=300, height=220)
    ).properties(
        title=alt.Title(
            "How far do K steps get on real hidden states?",
            subtitle="Over the values before the first step. Dashed: what the spectrum says. "
            "Squares: the dual form of the unit.",
        )
    )


def rate_by_condition(result: Result) -> alt.HConcatChart:
    """Made problems: the gap step by step, and the fitted rate beside the theoretical one."""
    table = result.tables["made"]
    first = table[table["problem"] == 0]
    rates = table.groupby(["condition", "problem"], as_index=False)[["measured", "theory"]].first()
    conditions = sorted(table["condition"].unique())
    colour = alt.Color(
        "condition:O",
        title="condition number",
        scale=renderer.source_scale(conditions),
    )
    course = alt.Chart(first[first["gap"] > 1e-6]).encode(
        x=alt.X("steps:Q", title="inner steps", scale=alt.Scale(type="symlog")), color=colour
    )
    log = alt.Scale(type="log")
    left = alt.layer(
        course.mark_line(strokeDash=[5, 4], opacity=0.7).encode(
            y=alt.Y("expected:Q", title="distance to the limit", scale=log)
        ),
        course.mark_point(filled=True, size=16, opacity=0.8).encode(y="gap:Q"),
    )
    rate = alt.Chart(rates).encode(x=alt.X("condition:Q", title="condition number", scale=log))
    right = alt.layer(
        rate.mark_line(strokeDash=[5, 4], color=renderer.GREY).encode(
            y=alt.Y("theory:Q", title="rate per step (−log factor)", scale=log)
        ),
        rate.mark_point(filled=True, size=40, opacity=0.7).encode(
            y="measured:Q", color=colour, tooltip=["condition", "problem", "measured", "theory"]
        ),
    )
    return alt.hconcat(
        left.properties(width=300, height=220), right.properties(width=300, height=220)
    ).properties(
        title=alt.Title(
            "Is the rate the one that theory gives?",
            subtitle="Made problems with known spectra. Dots: measured. Dashed: theory.",
        )
    )


def gain_by_steps(result: Result) -> alt.FacetChart:
    """What K steps are worth to the text that follows, for every way of training and stepping."""
    data = labels(result.tables["gains"])
    data = data[data["steps"] > 0]
    # What loses many times over what others gain would leave a chart of nothing else.
    scale = (
        data[data["direction"] == "descent"].groupby("panel")["gain"].agg(lambda g: g.abs().max())
    )
    data = data[data["gain"] > -2 * data["panel"].map(scale)]
    finite = sorted(data["steps"][np.isfinite(data["steps"])].unique())
    # The limit stands one doubling after the last K.
    data["at"] = np.log2(data["steps"].replace(np.inf, 2 * finite[-1]))
    data["K"] = data["steps"].map(lambda k: "limit" if np.isinf(k) else f"{k:g}")
    shown = [name for name in TRAINING_COLOURS if name in set(data["training"])]
    last = float(np.log2(2 * finite[-1]))
    axis = alt.Axis(
        values=[*(float(np.log2(k)) for k in finite), last],
        labelExpr=f"datum.value >= {last} ? 'limit' : round(pow(2, datum.value))",
    )
    base = alt.Chart().encode(
        x=alt.X("at:Q", title="inner steps K on every unit", axis=axis),
        y=alt.Y("gain:Q", title="gain over no step (nats per token)"),
        color=alt.Color(
            "training:N",
            title=None,
            scale=alt.Scale(domain=shown, range=[TRAINING_COLOURS[name] for name in shown]),
            legend=alt.Legend(columns=3, labelLimit=250),
        ),
        strokeDash=alt.StrokeDash(
            "direction:N",
            title=None,
            scale=alt.Scale(domain=["descent", "ascent"], range=[[1, 0], [4, 3]]),
        ),
        detail="training:N",
    )
    numbers = [alt.Tooltip(f"{name}:Q", format="+.4f") for name in ("gain", "low", "high")]
    return (
        alt.layer(
            renderer.zero_rule("y"),
            base.mark_line(strokeWidth=1.5, opacity=0.7),
            base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q"),
            base.mark_point(filled=True, size=45, opacity=1).encode(
                tooltip=["training:N", "direction:N", "K:N", *numbers]
            ),
            data=data,
        )
        .properties(width=300, height=220)
        .facet(column=alt.Column("panel:N", title=None, sort=list(PANELS.values())))
        .resolve_scale(y="independent")
        .properties(
            title=alt.Title(
                "Do more steps help what is read next?",
                subtitle="Mean over documents, 95 % intervals. Scales differ. Losses above "
                "twice the largest gain are left to the table.",
            )
        )
    )
