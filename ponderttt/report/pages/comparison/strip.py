"""The action strip: a test passage, each token on the colour of the steps that it was given."""

import altair as alt
import pandas as pd

from ponderttt.report.display import markdown
from ponderttt.report.display.token_text import SEPARATOR, coloured_text, lay_out, pack, unpacked
from ponderttt.report.pages.comparison.names import STEPS
from ponderttt.result import Result


def strip(result: Result) -> alt.LayerChart | markdown.Markdown:
    """One passage under each adaptive method (first seed); hover for steps and loss."""
    table = result.tables["strip"]
    if not len(table):
        return markdown.Markdown("No method here looks at the text.\n")
    data = pd.DataFrame(
        [_row(str(name), rows) for name, rows in table.groupby("method", sort=False)]
    )
    names, lines = list(data["method"]), int(data["lines"].max())
    method = alt.param(
        name="method", value=names[0], bind=alt.binding_select(options=names, name="method: ")
    )
    base = unpacked(
        alt.Chart(data).transform_filter("datum.method == method"), loss="losses", k="steps"
    ).transform_calculate(read="datum.loss / 100", mean="datum.k / 100")
    tooltip = [
        alt.Tooltip("token:N", title="token"),
        alt.Tooltip("mean:Q", title="its steps, mean of TTT layers", format=".1f"),
        alt.Tooltip("read:Q", title="loss of the token", format=".2f"),
    ]
    scale = alt.Scale(
        type="log",
        base=2,
        domain=list(STEPS),
        range=list(STEPS.values()),
        interpolate="rgb",
    )
    legend = alt.Legend(
        orient="top", direction="horizontal", gradientLength=160, values=list(STEPS)
    )
    return coloured_text(
        base,
        alt.Color("mean:Q", title="K", scale=scale, legend=legend),
        tooltip,
        lines,
        opacity=0.4,
        picker=method,
        title=alt.Title(
            "Where do the steps go?",
            subtitle=f"The beginning of a window of “{table['document'].iloc[0]}”; the steps "
            "that a token is given are taken before the next one is predicted.",
        ),
    )


def _row(name: str, rows: pd.DataFrame) -> dict:
    """The passage packed into one row, as `explorer` unpacks it."""
    pieces, places = lay_out([str(piece) for piece in rows["token"]])
    return {
        "method": name,
        "tokens": SEPARATOR.join(pieces),
        "places": pack(places),
        "losses": pack(round(100 * x) for x in rows["loss"]),
        "steps": pack(round(100 * x) for x in rows["steps"]),
        "lines": max(place // 1000 for place in places) + 1,
    }
