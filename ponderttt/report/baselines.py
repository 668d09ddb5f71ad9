"""The baselines page: what `ponderttt.experiments.baselines` found, as tables, charts and claims.

Every function takes the experiment's result and gives what a notebook cell displays.
Gains are in nats per token, positive where the loss is lower than the reference's.
"""

import altair as alt
import pandas as pd

from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.experiments.result import Result
from ponderttt.report import markdown, renderer
from ponderttt.report.claims import ABOVE_ZERO, NOT_NEGATIVE, Claim, Evidence, signed_interval, to_markdown

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
    """`all`, then the sources in the order in which they were read."""
    names = result.tables["gains"]["source"].unique()
    return ["all", *(name for name in names if name != "all")]


def losses(result: Result) -> markdown.Markdown:
    """Two tables: loss and cost of every method on every source, and the gains with intervals."""
    gains = result.tables["gains"].set_index(["source", "objective", "method"]).sort_index()
    names, loss_rows, gain_rows = sources(result), [], []
    for objective in ("none", *objectives(result)):
        heading = "*no adapter*" if objective == "none" else f"*{OBJECTIVE_LABELS[objective]}*"
        loss_rows.append((heading, *[""] * (len(names) + 1)))
        gain_rows.append((heading, *[""] * len(names)))
        for method in _ordered_methods(gains, objective):
            at = [gains.loc[(name, objective, method)] for name in names]
            loss_rows.append((method, *(f"{row.loss:.4f}" for row in at), f"{at[0].cost:.2f}"))
            if method not in ("base", "SKIP"):
                gain_rows.append((method, *(_millinats(row) for row in at)))
    counts = ", ".join(f"{int(gains.loc[(name, 'none', 'base')].n)} of {name}" for name in names[1:])
    return markdown.join(
        f"**Loss** in nats per token, and nominal cost per unit (test documents: {counts}).",
        markdown.table(("", *names, "cost"), loss_rows),
        "**Gain** in thousandths of a nat per token, with its 95 % interval by document: of "
        "`base x2` and `base x4` over `base`, of the others over `SKIP` of the same objective.",
        markdown.table(("", *names), gain_rows),
    )


def gain_by_position(result: Result) -> alt.FacetChart:
    """Gain over SKIP of each action against the unit's position in the document."""
    table = result.tables["positions"]
    data = _named_objectives(table[table["method"].isin(updates(result))])
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
                "Gain over SKIP; numbers: steps on every unit. Grey: a window of two and four "
                "units, over base.",
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
            width=280, height=190, title=alt.Title(OBJECTIVE_LABELS[objective], fontSize=12, offset=4)
        )
        for objective in objectives(result)
    ]
    return (
        alt.hconcat(*panels)
        .resolve_scale(x="shared", color="shared", yOffset="independent")
        .add_params(action)
        .properties(
            title=_title(
                "Which documents gain?",
                "Dots: one document each. Bars: mean of a source with its 95 % interval.",
            )
        )
    )


def claims(result: Result) -> list[Claim]:
    """What the page claims: the same sentences whatever came out."""
    found = [claim for objective in objectives(result) for claim in _claims_on(result, objective)]
    uniform = result.tables["uniform"]
    margin = float((uniform["nll"] - uniform["bound"]).min())
    floor = Claim(
        "On uniform tokens no method gets below ln V by more than 3 standard errors.",
        NOT_NEGATIVE,
        Evidence(margin, float("nan"), float("nan"), len(uniform)),
    )
    return [*found, floor]


def conclusions(result: Result) -> markdown.Markdown:
    """The claims with their verdicts, as a table."""
    return to_markdown(claims(result))


def uniform_floor(result: Result) -> markdown.Markdown:
    """Loss of every method on uniform tokens beside the floor that none may pass."""
    rows = [
        (
            row.method if row.objective == "none" else f"{OBJECTIVE_LABELS[row.objective]} {row.method}",
            f"{row.nll:.4f}",
            f"{row.se:.4f}",
            f"{row.bound:.4f}",
            "yes" if row.ok else "**no**",
        )
        for row in result.tables["uniform"].itertuples()
    ]
    heads = ("method", "loss", "s.e.", "ln V − 3 s.e.", "respected")
    return markdown.table(heads, rows)


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    units, gains = result.tables["units"], result.tables["gains"]
    lines = [f"{name}: {len(table)} rows" for name, table in sorted(result.tables.items())]
    lines += [
        f"documents: {units.groupby('source')['path'].nunique().to_dict()}",
        f"units in a document: at most {units['unit'].max() + 1}",
        f"methods: {', '.join(sorted(gains['method'].unique()))}",
        f"losses finite and positive: {bool(units['nll'].gt(0).all())}",
        f"costs rise with the steps: {_costs_rise(result)}",
        f"uniform floor respected: {bool(result.tables['uniform']['ok'].all())}",
    ]
    return "\n".join(lines)


def _steps(method: str) -> int:
    return int(method.removeprefix("UPDATE_"))


def _ordered_methods(gains: pd.DataFrame, objective: str) -> list[str]:
    present = gains.loc[("all", objective)].index
    first = [name for name in REFERENCE_METHODS if name in present]
    return first + sorted((name for name in present if name not in first), key=lambda m: (len(m), m))


def _millinats(row: pd.Series) -> str:
    return signed_interval(1e3 * row.gain, 1e3 * row.low, 1e3 * row.high, digits=1)


def _named_objectives(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(objective=table["objective"].map(OBJECTIVE_LABELS))


def _differences(result: Result, objective: str, method: str, over: tuple[str, str]) -> Evidence:
    """Gain of a method minus that of `over` (objective, method), paired by document."""
    table = result.tables["documents"].set_index(["objective", "method"]).sort_index()
    ours, theirs = (
        table.loc[[key]].set_index(["source", "path"])["gain"] for key in ((objective, method), over)
    )
    paired = (ours - theirs).dropna()
    groups = [group.to_numpy() for _, group in paired.groupby(level="source")]
    return Evidence(*cluster_interval(groups))


def _claims_on(result: Result, objective: str) -> list[Claim]:
    gains = result.tables["gains"].set_index(["objective", "method", "source"]).sort_index()
    actions, label = updates(result), OBJECTIVE_LABELS[objective]

    def gain(action: str, source: str) -> Claim:
        row = gains.loc[(objective, action, source)]
        where = "the documents of all sources" if source == "all" else f"documents of {source}"
        return Claim(
            f"{label}: {action} lowers the loss on {where}, against SKIP.",
            ABOVE_ZERO,
            Evidence(row.gain, row.low, row.high, int(row.n)),
        )

    top = actions[-1]
    found = [gain(action, "all") for action in actions]
    found += [gain(top, source) for source in sources(result)[1:]]
    found += [
        Claim(
            f"{label}: {more} gains more than {fewer}.",
            ABOVE_ZERO,
            _differences(result, objective, more, (objective, fewer)),
        )
        for fewer, more in zip(actions, actions[1:], strict=False)
    ]
    rivals = {
        (objective, "rate 0"): "the same adapter trained without updating gains",
        ("none", "base x2"): "a window of two units gains over one",
    }
    measured = gains.index.droplevel("source")
    return found + [
        Claim(
            f"{label}: {top} gains more than {what}.",
            ABOVE_ZERO,
            _differences(result, objective, top, rival),
        )
        for rival, what in rivals.items()
        if rival in measured
    ]


def _costs_rise(result: Result) -> bool:
    gains = result.tables["gains"]
    cost = gains[gains["source"] == "all"].groupby("method")["cost"].mean()
    return bool(cost[["SKIP", *updates(result)]].is_monotonic_increasing)


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
        .transform_fold(actions, as_=["method", "gain"])
        .transform_filter("datum.method == action")
        .mark_circle(size=34, opacity=0.45)
        .encode(
            x=alt.X("gain:Q", title="gain over SKIP (nats per token)"),
            y=y,
            yOffset=alt.YOffset("rank:Q", scale=alt.Scale(domain=[-0.35, 1.35])),
            color=alt.Color("source:N", legend=None, scale=_source_scale(names)),
            tooltip=["path:N", alt.Tooltip("gain:Q", format="+.4f")],
        )
    )
    summary = alt.Chart(means).transform_filter("datum.method == action")
    interval = summary.mark_rule(strokeWidth=2.5, style="ink").encode(x="low:Q", x2="high:Q", y=y)
    mean = summary.mark_tick(thickness=3, height=24, style="ink").encode(
        x="gain:Q", y=y, tooltip=_gain_tooltip("source", "method")
    )
    return alt.layer(_zero_rule("x"), points, interval, mean)


def _paired_wide(result: Result, objective: str, actions: list[str]) -> pd.DataFrame:
    """One row a document with a column for each action, and a rank in [0, 1] that spreads them."""
    table = result.tables["documents"]
    table = table[(table["objective"] == objective) & table["method"].isin(actions)]
    wide = table.pivot(index=["source", "path"], columns="method", values="gain").reset_index()
    position = wide.groupby("source").cumcount()
    # The golden ratio's multiples fill [0, 1] evenly: dots of a row never pile up.
    return wide.assign(rank=(position * 0.6180339887 % 1).round(4))


def _title(text: str, subtitle: str) -> alt.Title:
    return alt.Title(text, subtitle=subtitle)


def _whole() -> alt.Axis:
    return alt.Axis(format="d", tickMinStep=1)


def _zero_rule(channel: str) -> alt.Chart:
    return (
        alt.Chart(alt.InlineData(values=[{}]))
        .mark_rule(strokeDash=[3, 3], color=renderer.GREY)
        .encode(**{channel: alt.datum(0)})
    )


def _action_colour(actions: list[str]) -> alt.Color:
    colours = [ACTION_COLOURS.get(name, renderer.PURPLE) for name in actions]
    return alt.Color(
        "method:N",
        title=None,
        scale=alt.Scale(domain=actions, range=colours),
        legend=alt.Legend(symbolOpacity=1),
    )


def _source_scale(names: list[str]) -> alt.Scale:
    return alt.Scale(domain=names, range=SOURCE_COLOURS[: len(names)])


def _objective_column() -> alt.Column:
    order = list(OBJECTIVE_LABELS.values())
    return alt.Column("objective:N", title=None, sort=order)


def _gain_tooltip(*names: str) -> list:
    numbers = [alt.Tooltip(f"{name}:Q", format="+.4f") for name in ("gain", "low", "high")]
    return [*names, *numbers]
