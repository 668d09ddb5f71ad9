"""The page of the update rules in charts; titles ask the question, intervals are drawn."""

import altair as alt
import numpy as np
import pandas as pd

from ponderttt.report.display import renderer
from ponderttt.report.display.position import drawn_by_position
from ponderttt.report.pages.update_rules.names import ranked, tried
from ponderttt.result import Result

GAIN = "gain over the full window (thousandths of a nat)"
FLOOR = -60.0
"""What gains less is drawn there: a rate beyond the cliff would hide all others."""
COLOURS = [
    renderer.ORANGE, renderer.BLUE, renderer.GREEN, renderer.SKY, renderer.PURPLE,
    renderer.VERMILION, renderer.GREY,
]  # fmt: skip


def by_rate(result: Result) -> alt.FacetChart:
    """Gain of every rule against its rate: where it climbs, and where it falls."""
    data = _drawn(tried(result).query("stage == 'rule'"))
    x = alt.X(
        "rate:Q",
        title="rate",
        scale=alt.Scale(type="log", padding=14),
        axis=alt.Axis(format="~g", tickCount=3),
    )
    base = alt.Chart().encode(x=x)
    layers = (
        renderer.zero_rule("y"),
        base.mark_line(strokeWidth=1.6, color=renderer.BLUE).encode(y=alt.Y("drawn:Q", title=None)),
        _points(base, renderer.BLUE),
    )
    return (
        alt.layer(*layers, data=data)
        .properties(width=145, height=120)
        .facet(facet=alt.Facet("rule_name:N", title=None, sort=_order(data)), columns=4)
        .resolve_scale(x="independent")
        .properties(
            title=alt.Title(
                "Which rule, at which rate?",
                subtitle="Training repositories, thousandths of a nat over the full window; "
                f"what falls below {FLOOR:.0f} is drawn there as a triangle.",
            )
        )
    )


def by_depth(result: Result) -> alt.LayerChart:
    """Gain of the best rule by how many of the last blocks learn, at the rates tried of each."""
    table = tried(result)
    best = ranked(table[table["stage"].isin(["rule", "pull"])]).iloc[0]
    kept = (table["stage"] == "depth") & (table["rule"] == best["rule"])
    data = _drawn(pd.concat([table[kept], best.to_frame().T.infer_objects()]))
    base = alt.Chart(data).encode(
        x=alt.X("blocks:O", title="last blocks that learn", axis=alt.Axis(labelAngle=0))
    )
    return alt.layer(
        renderer.zero_rule("y"),
        _points(base, renderer.BLUE),
    ).properties(
        width=420,
        height=220,
        title=alt.Title(
            "How deep?",
            subtitle=f"{best['rule_name']}, each depth at two or three rates, in training; "
            "0: a map on the last state.",
        ),
    )


def by_cost(result: Result) -> alt.LayerChart:
    """Every recipe: what it gains in training against what it adds to a forward pass."""
    data = _drawn(tried(result))
    budget = float(result.scalars["flops_budget"])
    stages = list(dict.fromkeys(data["stage"]))
    base = alt.Chart(data).encode(
        x=alt.X(
            "share:Q",
            title="what it adds to a forward pass (share of its FLOPs)",
            axis=alt.Axis(format="%"),
            scale=alt.Scale(type="log", padding=16),
        ),
        y=alt.Y("drawn:Q", title=GAIN),
    )
    limit = (
        alt.Chart(pd.DataFrame({"share": [budget]}))
        .mark_rule(strokeDash=[4, 4], color=renderer.GREY)
        .encode(x="share:Q")
    )
    points = base.mark_point(filled=True, size=55, opacity=0.85).encode(
        color=alt.Color(
            "stage:N",
            title=None,
            sort=stages,
            scale=alt.Scale(domain=stages, range=COLOURS[: len(stages)]),
        ),
        tooltip=_tooltip(),
    )
    ring = base.transform_filter("datum.chosen").mark_point(
        size=260, strokeWidth=2.5, style="ink", filled=False
    )
    return alt.layer(renderer.zero_rule("y"), limit, points, ring).properties(
        width=600,
        height=260,
        title=alt.Title(
            "What does a gain cost?",
            subtitle="Every recipe on training repositories. Dashed: the budget. "
            "Ring: the winner, by validation.",
        ),
    )


def by_position(result: Result) -> alt.LayerChart:
    """Gain on test repositories by how much of the repository has been read."""
    data = drawn_by_position(result.tables["positions"], result)
    names = list(dict.fromkeys(data["shown"]))
    base = alt.Chart(data).encode(
        x=alt.X("read:Q", title="read of the repository (thousands of tokens)"),
        color=alt.Color(
            "shown:N",
            title=None,
            sort=names,
            scale=alt.Scale(domain=names, range=[renderer.BLUE, renderer.ORANGE][: len(names)]),
            legend=alt.Legend(symbolOpacity=1),
        ),
    )
    band = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=GAIN), y2="high:Q")
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=24)).encode(
        y="gain:Q", tooltip=["shown:N", "read:Q", "gain:Q", "low:Q", "high:Q"]
    )
    return alt.layer(renderer.zero_rule("y"), band, line).properties(
        width=600,
        height=250,
        title=alt.Title(
            "Does it go on gaining?",
            subtitle="Test repositories of code. Lines: mean; bands: 95 % intervals by repository.",
        ),
    )


def _points(base: alt.Chart, colour: str) -> alt.LayerChart:
    """A mark for each recipe, with its interval; a triangle where it lies below what is drawn."""
    rule = base.transform_filter("datum.low > datum.floor").mark_rule(color=colour, opacity=0.5)
    return alt.layer(
        rule.encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=52, opacity=1, color=colour).encode(
            y=alt.Y("drawn:Q", title="gain (thousandths of a nat)"),
            shape=alt.Shape(
                "below:N",
                legend=None,
                scale=alt.Scale(domain=[False, True], range=["circle", "triangle-down"]),
            ),
            tooltip=_tooltip(),
        ),
    )


def _drawn(table: pd.DataFrame) -> pd.DataFrame:
    """With the height at which each recipe is drawn; what is not finite lies below everything."""
    known = table["gain"].astype(float)
    gain = known.fillna(-np.inf)
    return table.assign(
        gain=known.round(2),
        drawn=gain.clip(lower=FLOOR).round(2),
        below=gain < FLOOR,
        floor=FLOOR,
        share=table["share"].astype(float).round(4),
    )[
        [
            "label", "stage", "rule_name", "rate", "blocks", "share", "chosen", "gain", "low",
            "high", "drawn", "below", "floor",
        ]
    ]  # fmt: skip


def _order(data: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(data["rule_name"]))


def _tooltip() -> list:
    return ["label:N", alt.Tooltip("gain:Q", format="+.1f"), alt.Tooltip("share:Q", format=".1%")]
