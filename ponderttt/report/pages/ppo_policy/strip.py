"""The action strip: a document's text, each unit on the colour of what the policy did with it."""

import altair as alt
import pandas as pd

from ponderttt.report.display import equal_cost as contest
from ponderttt.report.display import renderer
from ponderttt.report.display.token_text import SEPARATOR, coloured_text, lay_out, pack, unpacked
from ponderttt.result import Result


def strip(result: Result) -> alt.LayerChart:
    """One test document of each kind, its text coloured by the steps taken; hover for losses."""
    data = _rows(result.tables["strip"])
    titles = list(dict.fromkeys(data["title"]))
    lines = int(data["lines"].max())
    actions = list(renderer.ACTION_COLOURS)
    document = alt.param(
        name="file", value=titles[0], bind=alt.binding_select(options=titles, name="document: ")
    )
    base = unpacked(
        alt.Chart(data).transform_filter("datum.title == file"), after="losses", before="skips"
    ).transform_calculate(read="datum.after / 100", never="datum.before / 100")
    tooltip = [
        alt.Tooltip("token:N", title="token"),
        alt.Tooltip("read:Q", title="its loss", format=".2f"),
        alt.Tooltip("never:Q", title="under SKIP", format=".2f"),
        alt.Tooltip("unit:O", title="unit"),
        alt.Tooltip("action:N", title="then"),
        alt.Tooltip("loss:Q", title="loss of the unit", format=".3f"),
        alt.Tooltip("skip_loss:Q", title="under SKIP", format=".3f"),
        alt.Tooltip("value:Q", title="gain expected from here", format=".3f"),
    ]
    return coloured_text(
        base,
        alt.Color("action:N", title=None, scale=renderer.action_scale(actions)),
        tooltip,
        lines,
        opacity=0.32,
        picker=document,
        title=alt.Title(
            "What does it do with a real file?",
            subtitle="The text of each unit on the colour of the steps taken after it (seed "
            f"0, budget {contest.middle(result):g}, hard account).",
        ),
    )


def _rows(table: pd.DataFrame) -> pd.DataFrame:
    """One row a unit, its tokens packed; units of a document stand below one another."""
    rows: list[dict] = []
    for (source, path), units in table.groupby(["source", "path"], sort=False):
        line = 0
        here = []
        for row in units.sort_values("unit").to_dict("records"):
            pieces, places = lay_out([str(piece) for piece in row["pieces"]])
            here.append(
                {
                    "title": f"{source} · {path}",
                    "unit": int(row["unit"]),
                    "action": row["action"],
                    "tokens": SEPARATOR.join(pieces),
                    "places": pack(place + 1000 * line for place in places),
                    "losses": pack(round(100 * x) for x in row["token_loss"]),
                    "skips": pack(round(100 * x) for x in row["token_skip"]),
                    **{k: round(float(row[k]), 4) for k in ("loss", "skip_loss", "value")},
                }
            )
            line += max(places) // 1000 + 1
        rows += [row | {"lines": line} for row in here]
    return pd.DataFrame(rows)
