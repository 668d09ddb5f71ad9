"""The repositories' page in charts; titles ask the question, intervals are drawn."""

import altair as alt
import pandas as pd

from ponderttt.evaluation.statistics import interval_by_source
from ponderttt.experiments.repositories.conditions import (
    BASE,
    BOTH,
    CACHE,
    CARRIED,
    NOTHING,
    OTHER,
    OWN,
    PLAIN,
    RESET,
    SHUFFLED,
)
from ponderttt.prepare.repositories import PROSE
from ponderttt.report.display import renderer
from ponderttt.report.display.explorer import document_explorer
from ponderttt.report.display.position import drawn_by_position
from ponderttt.result import Result

GAIN = "gain over the full window (thousandths of a nat)"
COLOURS = {
    CARRIED: renderer.BLUE, RESET: renderer.ORANGE, PLAIN: renderer.GREY,
    SHUFFLED: renderer.PURPLE, CACHE: renderer.GREEN, BOTH: renderer.VERMILION,
}  # fmt: skip
LEFT_OUT = (BASE, SHUFFLED)
"""Of the chart by position: shuffled files have other positions."""
TREE_FILES = 24


def by_position(result: Result) -> alt.LayerChart:
    """Gain by how much of the repository has been read, under each condition."""
    table = result.tables["positions"]
    data = drawn_by_position(table[~table["condition"].isin(LEFT_OUT)], result)
    base = alt.Chart(data).encode(
        x=alt.X("read:Q", title="read of the repository (thousands of tokens)"),
        color=_colour([condition for condition in COLOURS if condition in set(data["condition"])]),
    )
    band = base.mark_area(opacity=0.14).encode(y=alt.Y("low:Q", title=GAIN), y2="high:Q")
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=22)).encode(
        y="gain:Q", tooltip=["condition:N", "read:Q", "gain:Q", "low:Q", "high:Q"]
    )
    return alt.layer(renderer.zero_rule("y"), band, line).properties(
        width=600,
        height=280,
        title=alt.Title(
            "Does a reader of a repository go on gaining?",
            subtitle="Test repositories of code. Lines: mean; bands: 95 % intervals by repository.",
        ),
    )


def halves(result: Result) -> alt.LayerChart:
    """Gain on the second half of a repository, by what was read before it."""
    table, rows = result.tables["halves"], []
    for before in (OWN, OTHER, NOTHING):
        part = table[table["before"] == before]
        if len(part):
            interval = interval_by_source(part["gain"], part["source"])
            rows.append({"before": before, "gain": interval.mean} | interval._asdict())
    data = pd.DataFrame(rows).drop(columns="mean")
    data = data.assign(**{name: (1e3 * data[name]).round(3) for name in ("gain", "low", "high")})
    base = alt.Chart(data).encode(y=alt.Y("before:N", title=None, sort=[OWN, OTHER, NOTHING]))
    return alt.layer(
        renderer.zero_rule("x"),
        base.mark_rule(strokeWidth=2, color=renderer.BLUE).encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1, color=renderer.BLUE).encode(
            x=alt.X("gain:Q", title=GAIN), tooltip=["before:N", "gain:Q", "low:Q", "high:Q", "n:Q"]
        ),
    ).properties(
        width=480,
        height=110,
        title=alt.Title(
            "Is it the repository that is learned, or the language?",
            subtitle="The second half of each repository, by what was read before it.",
        ),
    )


def by_window(result: Result) -> alt.LayerChart:
    """Loss against FLOPs a token at each window, with and without updates."""
    table = result.tables["rivals"]
    by_source = table.groupby(["window", "learns", "source"])[["loss", "flops"]].mean()
    means = by_source.groupby(["window", "learns"]).mean().reset_index()
    data = means.assign(
        loss=means["loss"].round(4),
        flops=(means["flops"] / 1e6).round(2),
        reads=means["learns"].map({True: "with updates", False: "the base alone"}),
    )
    names = ["the base alone", "with updates"]
    base = alt.Chart(data).encode(
        x=alt.X("flops:Q", title="millions of FLOPs a token", scale=alt.Scale(zero=False)),
        y=alt.Y("loss:Q", title="loss (nats per token)", scale=alt.Scale(zero=False)),
        color=alt.Color(
            "reads:N",
            title=None,
            scale=alt.Scale(domain=names, range=[renderer.GREY, renderer.BLUE]),
        ),
    )
    return alt.layer(
        base.mark_line(strokeWidth=1.5, opacity=0.6),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            tooltip=["reads:N", "window:Q", "loss:Q", "flops:Q"]
        ),
        base.mark_text(dy=-12, fontSize=11).encode(text="window:Q"),
    ).properties(
        width=480,
        height=240,
        title=alt.Title(
            "What else would the same FLOPs buy?",
            subtitle="Numbers: the window in tokens. The longest is all that the base has.",
        ),
    )


def tree(result: Result) -> alt.HConcatChart:
    """The files of a repository in the order they are read: loss of the base, and the gain."""
    table = result.tables["files"]
    table = table[~table["source"].isin(PROSE)]
    firsts = table.groupby("source", sort=False)["repository"].first()
    kept = table[table.apply(lambda row: firsts[row["source"]] == row["repository"], axis=1)]
    data = kept.assign(
        title=kept["source"] + " · " + kept["repository"],
        loss=kept[BASE].round(3),
        gain=(1e3 * (kept[BASE] - kept[CARRIED])).round(1),
        reset=(1e3 * (kept[BASE] - kept[RESET])).round(1),
        label=kept["path"].str.slice(-48),
    )[["title", "label", "file", "tokens", "loss", "gain", "reset"]]
    data = data[data["file"] < TREE_FILES]
    titles = list(dict.fromkeys(data["title"]))
    pick = alt.param(
        name="repository",
        value=titles[0],
        bind=alt.binding_select(options=titles, name="repository: "),
    )
    order = alt.EncodingSortField("file", order="ascending")
    y = alt.Y("label:N", title=None, sort=order, axis=alt.Axis(labelLimit=300))
    base = alt.Chart(data).transform_filter("datum.title == repository")
    tooltip = ["label:N", "tokens:Q", "loss:Q", "gain:Q", "reset:Q"]
    loss = base.mark_bar(color=renderer.GREY).encode(
        x=alt.X("loss:Q", title="loss of the base (nats per token)"), y=y, tooltip=tooltip
    )
    bare = alt.Y("label:N", title=None, sort=order, axis=None)
    gain = base.mark_bar(color=renderer.BLUE).encode(
        x=alt.X("gain:Q", title="gain (thousandths of a nat)"), y=bare, tooltip=tooltip
    )
    alone = base.mark_tick(color=renderer.ORANGE, thickness=2.5).encode(x="reset:Q", y=bare)
    return (
        alt.hconcat(
            loss.properties(width=190), alt.layer(gain, alone).properties(width=250), spacing=14
        )
        .add_params(pick)
        .properties(
            title=alt.Title(
                "Which files gain?",
                subtitle="In the order they are read. Bars: fast weights carried; ticks: reset "
                "at each file.",
            )
        )
    )


def explorer(result: Result) -> alt.VConcatChart:
    """The last files of a repository, unit by unit and token by token."""
    colours = {"SKIP": renderer.GREY, "UPDATE": renderer.BLUE}
    return document_explorer(result, colours)


def _colour(names: list[str]) -> alt.Color:
    return alt.Color(
        "condition:N",
        title=None,
        sort=names,
        scale=alt.Scale(domain=names, range=[COLOURS[name] for name in names]),
        legend=alt.Legend(symbolOpacity=1, columns=3),
    )
