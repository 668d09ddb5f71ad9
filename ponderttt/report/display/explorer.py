"""The document explorer: one document, its loss per unit under each action, and its tokens.

The chart's data has one row a unit; its tokens and their losses are lists (each packed into one
string), which the browser takes apart for the unit under the pointer: a few dozen rows carry ten
thousand tokens in under 300 KB.
"""

import json
from collections import Counter

import altair as alt
import pandas as pd

from ponderttt.report.display import renderer
from ponderttt.report.display.token_text import (
    LINE,
    SEPARATOR,
    WIDTH,
    lay_out,
    pack,
    token_layers,
    unpacked,
)
from ponderttt.result import Result

MAX_BYTES = 280_000
PAPER = "#fffdf9"


def document_explorer(result: Result, colours: dict[str, str]) -> alt.VConcatChart:
    """Pick a document, point at a unit, read its tokens; `colours` maps each action to its own.

    Losses in nats. As many documents as fit into `MAX_BYTES` are shown, one of each source first.
    """
    table = result.tables["explorer"]
    actions = [name for name in colours if name in table]
    best = actions[-1]
    data = _rows(table, actions, best)
    last = max(int(place) for places in data["places"] for place in places.split(","))
    titles = list(dict.fromkeys(data["title"]))
    document = alt.param(
        name="document",
        value=titles[0],
        bind=alt.binding_select(options=titles, name="document: "),
    )
    shade = alt.param(
        name="shade",
        value="loss",
        bind=alt.binding_radio(
            options=["loss", "gain"],
            labels=["loss under SKIP", f"gain of {best} over SKIP"],
            name="colour of the tokens: ",
        ),
    )
    at = alt.selection_point(
        name="at", fields=["unit"], on="pointerover", clear=False, value=[{"unit": 1}]
    )
    panels = (
        _losses(actions, colours, at, "loss"),
        _losses(actions[1:], colours, at, "gain"),
        _tokens(best, at, lines=last // 1000 + 1),
    )
    return (
        alt.vconcat(*panels, data=data, spacing=14)
        .transform_filter("datum.title == document")
        .add_params(document, shade)
        .resolve_scale(color="independent")
        .properties(
            title=alt.Title(
                "What does updating change, token by token?",
                subtitle="Point at a unit to read it below; point at a token for its losses.",
            )
        )
    )


def _rows(table: pd.DataFrame, actions: list[str], best: str) -> pd.DataFrame:
    """One row a unit: means of each action, and the unit's tokens laid out as lines of text."""
    rows: list[dict] = []
    size = 0
    for document in round_robin(table):
        units = [_unit(row, actions, best) for _, row in document.iterrows()]
        added = len(json.dumps(units, ensure_ascii=False).encode())
        if rows and (size + added > MAX_BYTES or len(rows) + len(units) > renderer.MAX_ROWS):
            break
        rows += units
        size += added
    return pd.DataFrame(rows)


def round_robin(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The documents, the first of every source before the second of any."""
    documents = [units.sort_values("unit") for _, units in table.groupby(["source", "path"])]
    turns = Counter[str]()
    order = []
    for number, document in enumerate(documents):
        source = document["source"].iloc[0]
        order.append((turns[source], number))
        turns[source] += 1
    return [documents[number] for _, number in sorted(order)]


def _unit(row: pd.Series, actions: list[str], best: str) -> dict:
    pieces, places = lay_out([str(piece) for piece in row["pieces"]])
    unit = {
        "title": f"{row['source']} · {_short(row['path'])}",
        "unit": int(row["unit"]),
        "tokens": SEPARATOR.join(pieces),
        "places": pack(places),
        # Hundredths of a nat: half the bytes of decimals, and more than the eye sees.
        "losses": pack(round(100 * float(loss)) for loss in row["nll_SKIP"]),
        "updates": pack(round(100 * float(loss)) for loss in row[f"nll_{best}"]),
    }
    return unit | {name: round(float(row[name]), 4) for name in actions}


def _short(path: str, longest: int = 60) -> str:
    return path if len(path) <= longest else "…" + path[-longest + 1 :]


def _losses(actions: list[str], colours: dict[str, str], at, quantity: str) -> alt.LayerChart:
    """Lines over the units of a document; transparent strips take the pointer."""
    gain = quantity == "gain"
    x = alt.X(
        "unit:Q",
        title="unit" if gain else None,
        scale=alt.Scale(nice=False, zero=False),
        axis=alt.Axis(format="d", tickMinStep=1, labels=gain),
    )
    colour = alt.Color(
        "action:N",
        title=None,
        legend=None if gain else alt.Legend(symbolOpacity=1),
        scale=alt.Scale(domain=actions, range=[colours[name] for name in actions]),
    )
    title = "gain over SKIP" if gain else "loss (nats per token)"
    value = "datum.SKIP - datum[datum.action]" if gain else "datum[datum.action]"
    lines = (
        alt.Chart()
        .transform_fold([*actions], as_=["action", "loss"])
        .transform_calculate(value=value)
        .mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=18))
        .encode(x=x, y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=gain)), color=colour)
    )
    strips = (
        alt.Chart()
        .transform_calculate(left="datum.unit - 0.5", right="datum.unit + 0.5")
        .mark_rect(color=renderer.GREY, cursor="pointer")
        .encode(
            x=alt.X("left:Q", title=None),
            x2="right:Q",
            opacity=alt.condition(at, alt.value(0.25), alt.value(0.0)),
            tooltip=["unit:O", *(alt.Tooltip(f"{name}:Q", format=".4f") for name in actions)],
        )
    )
    if not gain:
        strips = strips.add_params(at).properties(name="units")
    return alt.layer(lines, strips).properties(width=WIDTH, height=110)


def _tokens(best: str, at, *, lines: int) -> alt.LayerChart:
    """The tokens of the unit pointed at, each on a ground whose colour is its loss or gain."""
    base = unpacked(alt.Chart().transform_filter(at), before="losses", after="updates")
    base = base.transform_calculate(
        loss="datum.before / 100",
        updated="datum.after / 100",
        gain="(datum.before - datum.after) / 100",
    )
    ground, text = token_layers(base, _token_tooltip(best), lines)
    loss = ground.transform_filter("shade == 'loss'").mark_rect().encode(
        color=alt.Color(
            "loss:Q",
            title="loss (nats)",
            scale=alt.Scale(domain=[0, 8], clamp=True, range=[PAPER, "#fdae6b", "#d94801"]),
            legend=_legend(),
        )
    )  # fmt: skip
    gain = ground.transform_filter("shade == 'gain'").mark_rect().encode(
        color=alt.Color(
            "gain:Q",
            title="gain (nats)",
            scale=alt.Scale(
                domain=[-0.5, 0, 0.5], clamp=True, range=["#e66101", PAPER, "#4d9de0"],
                interpolate="rgb",
            ),
            legend=_legend(),
        )
    )  # fmt: skip
    return (
        alt.layer(loss, gain, text)
        .resolve_scale(color="independent")
        .properties(width=WIDTH, height=int(lines * LINE), view=alt.ViewConfig(fill=PAPER))
    )


def _legend() -> alt.Legend:
    return alt.Legend(orient="bottom", direction="horizontal", gradientLength=160)


def _token_tooltip(best: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("token:N", title="token"),
        alt.Tooltip("loss:Q", title="loss under SKIP", format=".2f"),
        alt.Tooltip("updated:Q", title=f"loss under {best}", format=".2f"),
    ]
