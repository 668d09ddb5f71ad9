"""The baselines page in charts; titles ask the question, intervals are drawn."""

import altair as alt
import pandas as pd

from ponderttt.report.display import renderer
from ponderttt.report.display.explorer import document_explorer
from ponderttt.report.pages.baselines.names import OBJECTIVE_LABELS, objectives, sources, updates
from ponderttt.result import Result

FAMILY_COLOURS = {
    "next-token": renderer.BLUE,
    "reconstruction": renderer.ORANGE,
    "longer window": renderer.GREY,
}


def gain_by_position(result: Result) -> alt.FacetChart:
    """Gain over SKIP of each action against the unit's position in the document."""
    table = result.tables["positions"]
    data = _named_objectives(table[table["method"].isin(updates(result))])
    base = alt.Chart().encode(
        x=alt.X(
            "unit:Q",
            title="position in the document (units read before)",
            axis=alt.Axis(format="d", tickMinStep=1),
        ),
        color=_action_colour(updates(result)),
    )
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y("low:Q", title="gain over SKIP (nats per token)"), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=22)).encode(
        y="gain:Q", tooltip=_gain_tooltip("method", "unit")
    )
    return (
        alt.layer(renderer.zero_rule("y"), band, line, data=data)
        .properties(width=315, height=230)
        .facet(column=_objective_column())
        .resolve_scale(y="independent")
        .properties(
            title=alt.Title(
                "Does updating gain more, the further it has read?",
                subtitle="Lines: mean over documents. Bands: 95 % intervals. Scales differ.",
            )
        )
    )


def gain_against_cost(result: Result) -> alt.FacetChart:
    """Gain of every schedule against its nominal cost, one panel for each source."""
    data = _named_objectives(result.tables["gains"]).rename(columns={"objective": "family"})
    data = data[data["method"] != "rate 0"]
    data["label"] = (
        data["method"]
        .str.replace("UPDATE_", "")
        .where(data["method"].str.startswith("UPDATE_"), "")
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
        renderer.zero_rule("y"),
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
        .properties(width=315, height=180)
        .facet(facet=alt.Facet("source:N", title=None, sort=sources(result)), columns=2)
        .properties(
            title=alt.Title(
                "What does a gain cost?",
                subtitle="Gain over SKIP; numbers: steps on every unit. "
                "Grey: a window of two and four units, over base.",
            )
        )
    )


def paired_differences(result: Result) -> alt.HConcatChart:
    """Each document's gain over SKIP, and each source's mean with its interval."""
    actions = updates(result)
    action = alt.param(
        name="action",
        value=actions[-1],
        bind=alt.binding_radio(options=actions, name="action: "),
    )
    panels = [
        _paired_panel(result, objective, actions).properties(
            width=300,
            height=190,
            title=alt.Title(OBJECTIVE_LABELS[objective], fontSize=12, offset=4),
        )
        for objective in objectives(result)
    ]
    return (
        alt.hconcat(*panels)
        .resolve_scale(color="shared", yOffset="independent")
        .add_params(action)
        .properties(
            title=alt.Title(
                "Which documents gain?",
                subtitle="Dots: documents. Bars: a source's mean, 95 % interval. Scales differ.",
            )
        )
    )


def explorer(result: Result) -> alt.VConcatChart:
    """A few documents with their losses per unit under each action, down to the tokens."""
    return document_explorer(result, renderer.ACTION_COLOURS)


def _paired_panel(result: Result, objective: str, actions: list[str]) -> alt.LayerChart:
    means = result.tables["gains"]
    means = means[
        (means["objective"] == objective)
        & means["method"].isin(actions)
        & (means["source"] != "all")
    ]
    names = sources(result)[1:]
    y = alt.Y("source:N", title=None, sort=names, axis=alt.Axis(labelFontSize=12))
    points = (
        alt.Chart(_paired_wide(result, objective, actions))
        .transform_fold([*actions], as_=["method", "gain"])
        .transform_filter("datum.method == action")
        .mark_circle(size=34, opacity=0.45)
        .encode(
            x=alt.X("gain:Q", title="gain over SKIP (nats per token)"),
            y=y,
            yOffset=alt.YOffset("rank:Q", scale=alt.Scale(domain=[-0.35, 1.35])),
            color=alt.Color("source:N", legend=None, scale=renderer.source_scale(names)),
            tooltip=["path:N", alt.Tooltip("gain:Q", format="+.4f")],
        )
    )
    summary = alt.Chart(means).transform_filter("datum.method == action")
    interval = summary.mark_rule(strokeWidth=2.5, style="ink").encode(x="low:Q", x2="high:Q", y=y)
    mean = summary.mark_tick(thickness=3, height=24, style="ink").encode(
        x="gain:Q", y=y, tooltip=_gain_tooltip("source", "method")
    )
    return alt.layer(renderer.zero_rule("x"), points, interval, mean)


def _paired_wide(result: Result, objective: str, actions: list[str]) -> pd.DataFrame:
    """One row a document with a column for each action, and a rank in [0, 1] that spreads them."""
    table = result.tables["documents"]
    table = table[(table["objective"] == objective) & table["method"].isin(actions)]
    wide = table.pivot(index=["source", "path"], columns="method", values="gain").reset_index()
    position = wide.groupby("source").cumcount()
    # The golden ratio's multiples fill [0, 1] evenly: dots of a row never pile up.
    return wide.assign(rank=(position * 0.6180339887 % 1).round(4))


def _named_objectives(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(objective=table["objective"].map(OBJECTIVE_LABELS))


def _action_colour(actions: list[str]) -> alt.Color:
    return alt.Color(
        "method:N",
        title=None,
        scale=renderer.action_scale(actions),
        legend=alt.Legend(symbolOpacity=1),
    )


def _objective_column() -> alt.Column:
    order = list(OBJECTIVE_LABELS.values())
    return alt.Column("objective:N", title=None, sort=order)


def _gain_tooltip(*names: str) -> list:
    numbers = [alt.Tooltip(f"{name}:Q", format="+.4f") for name in ("gain", "low", "high")]
    return [*names, *numbers]
