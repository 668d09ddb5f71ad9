"""The baselines page: what `ponderttt.experiments.baselines` found, as tables, charts and claims.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats per token, positive where the loss is lower than the reference's.
"""

import altair as alt
import pandas as pd

from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.experiments.result import Result
from ponderttt.report import markdown, renderer
from ponderttt.report.claims import ABOVE_ZERO, NOT_NEGATIVE, Claim, Evidence, to_markdown

ACTION_COLOURS = {
    "SKIP": renderer.GREY,
    "UPDATE_1": renderer.SKY,
    "UPDATE_2": renderer.GREEN,
    "UPDATE_4": renderer.VERMILION,
}
FAMILY_COLOURS = {
    "next-token": renderer.BLUE,
    "reconstruction": renderer.ORANGE,
    "longer window": renderer.GREY,
}
SOURCE_COLOURS = [renderer.BLUE, renderer.GREEN, renderer.ORANGE, renderer.PURPLE]
OBJECTIVE_LABELS = {
    "none": "longer window",
    "next_token": "next-token",
    "reconstruction": "reconstruction",
}
REFERENCE_METHODS = ("base", "base x2", "base x4", "rate 0", "SKIP")


def updates(result: Result) -> list[str]:
    """The updating actions of a result in order of their steps: UPDATE_1, UPDATE_2, ..."""
    methods = result.tables["gains"]["method"].unique()
    return sorted((m for m in methods if m.startswith("UPDATE_")), key=_steps)


def objectives(result: Result) -> list[str]:
    """The inner objectives of a result, in the order of its configuration."""
    present = result.tables["gains"]["objective"].unique()
    return [name for name in OBJECTIVE_LABELS if name in present and name != "none"]


def sources(result: Result) -> list[str]:
    """`all`, then the sources in the order in which the tables have them."""
    names = result.tables["gains"]["source"].unique()
    return ["all", *(name for name in names if name != "all")]


def losses(result: Result) -> markdown.Markdown:
    """Two tables: loss and cost of every method on every source, and the gains with intervals."""
    gains = result.tables["gains"].set_index(["source", "objective", "method"]).sort_index()
    names, heads, loss_rows, gain_rows = sources(result), ("objective", "method"), [], []
    for objective in ("none", *objectives(result)):
        for method in _ordered_methods(gains, objective):
            at = [gains.loc[(name, objective, method)] for name in names]
            label = ("–" if objective == "none" else OBJECTIVE_LABELS[objective], method)
            loss_rows.append((*label, f"{at[0].cost:.2f}", *(f"{row.loss:.4f}" for row in at)))
            if method not in ("base", "SKIP"):
                gain_rows.append((*label, *(_millinats(row) for row in at)))
    counts = ", ".join(f"{int(gains.loc[(name, 'none', 'base')].n)} {name}" for name in names)
    return markdown.join(
        "**Loss** (nats per token) **and cost** (nominal, mean per unit)",
        markdown.table((*heads, "cost", *names), loss_rows, left=2),
        "**Gain** (thousandths of a nat per token, 95 % interval by document): of `base x2` and "
        "`base x4` over `base`, of everything else over `SKIP` of the same objective",
        markdown.table((*heads, *names), gain_rows, left=2),
        f"Documents: {counts}.",
    )


def gain_by_position(result: Result) -> alt.FacetChart:
    """Gain over SKIP of each action against the unit's position in the document."""
    data = _named_objectives(result.tables["positions"])
    base = alt.Chart().encode(
        x=alt.X("unit:Q", title="position in the document (units read before)", axis=_whole()),
        color=_action_colour(updates(result)),
    )
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y("low:Q", title="gain over SKIP (nats per token)"), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=22)).encode(
        y="gain:Q", tooltip=_gain_tooltip("method", "unit")
    )
    return (
        alt.layer(_zero_rule("y"), band, line, data=data)
        .properties(width=295, height=230)
        .facet(column=_objective_column())
        .properties(
            title=_title(
                "Does updating gain more, the further it has read?",
                "Lines: mean over documents. Bands: 95 % intervals by document.",
            )
        )
    )


def gain_against_cost(result: Result) -> alt.FacetChart:
    """Gain of every schedule against its nominal cost, one panel for each source."""
    data = _named_objectives(result.tables["gains"]).rename(columns={"objective": "family"})
    data = data[data["method"] != "rate 0"]
    data["label"] = data["method"].str.replace("UPDATE_", "").where(
        data["method"].str.startswith("UPDATE_"), ""
    )
    family = alt.Color(
        "family:N",
        title=None,
        scale=alt.Scale(domain=list(FAMILY_COLOURS), range=list(FAMILY_COLOURS.values())),
    )
    base = alt.Chart().encode(
        x=alt.X("cost:Q", title="cost (nominal, mean per unit)", scale=alt.Scale(zero=True)),
        y=alt.Y("gain:Q", title="gain (nats per token)"),
        color=family,
    )
    fixed = base.transform_filter("datum.method != 'RANDOM'")
    layers = (
        _zero_rule("y"),
        fixed.mark_line(strokeWidth=1.5, opacity=0.7),
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q"),
        base.mark_point(size=55, filled=True, opacity=1).encode(
            shape=alt.Shape(
                "schedule:N",
                title=None,
                scale=alt.Scale(domain=["fixed", "random"], range=["circle", "diamond"]),
            ),
            tooltip=_gain_tooltip("family", "method", "cost"),
        ),
        fixed.mark_text(dx=9, dy=-8, fontSize=11).encode(text="label:N"),
    )
    return (
        alt.layer(*layers, data=data)
        .transform_calculate(schedule="datum.method == 'RANDOM' ? 'random' : 'fixed'")
        .properties(width=290, height=180)
        .facet(facet=alt.Facet("source:N", title=None, sort=sources(result)), columns=2)
        .properties(
            title=_title(
                "What does a gain cost?",
                "Over SKIP of the same objective (numbers: steps on every unit); grey: a window "
                "of 2 and 4 units, over base. Bars: 95 % intervals.",
            )
        )
    )


def paired_differences(result: Result) -> alt.FacetChart:
    """Each document's gain over SKIP, and each source's mean with its interval."""
    actions = updates(result)
    documents = _paired_wide(result, actions)
    means = _named_objectives(result.tables["gains"])
    means = means[means["method"].isin(actions)]
    chosen = alt.param(
        name="method",
        value=actions[-1],
        bind=alt.binding_radio(options=actions, name="action "),
    )
    y = alt.Y("source:N", title=None, sort=sources(result), axis=alt.Axis(labelFontSize=12))
    points = (
        alt.Chart(documents)
        .transform_fold(actions, as_=["method", "gain"])
        .transform_filter("datum.method == method")
        .mark_circle(size=34, opacity=0.5)
        .encode(
            x=alt.X("gain:Q", title="gain over SKIP of one document (nats per token)"),
            y=y,
            yOffset=alt.YOffset("rank:Q", scale=alt.Scale(domain=[-0.25, 1.25])),
            color=alt.Color("source:N", legend=None, scale=_source_scale(result)),
            tooltip=["path:N", alt.Tooltip("gain:Q", format="+.4f")],
        )
    )
    summary = alt.Chart(means).transform_filter("datum.method == method")
    interval = summary.mark_rule(strokeWidth=3).encode(x="low:Q", x2="high:Q", y=y)
    mean = summary.mark_tick(thickness=3, height=22).encode(
        x="gain:Q", y=y, tooltip=_gain_tooltip("source", "method")
    )
    panels = [
        alt.layer(*(layer.transform_filter(f"datum.objective == '{label}'")
                    for layer in (_zero_rule("x"), points, interval, mean)))
        .properties(width=290, height=190, title=alt.Title(label, fontSize=12, offset=4))
        for label in (OBJECTIVE_LABELS[name] for name in objectives(result))
    ]  # fmt: skip
    return alt.hconcat(*panels)
