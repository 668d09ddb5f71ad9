"""Text drawn token by token, each on a ground of its own colour: the explorer and the strips.

Tokens are laid out here as lines of text. A chart's row is a whole piece of text, whose tokens and
numbers are each packed into one string, which the browser takes apart.
"""

from collections.abc import Iterable

import altair as alt

COLUMNS, LINES = 92, 30
CHARACTER, LINE = 7.0, 15.0
WIDTH = int(COLUMNS * CHARACTER)
SEPARATOR = "\u241f"
INK = "#1b1b1b"


def pack(numbers: Iterable[int]) -> str:
    """Numbers as one string, which `unpacked` takes apart in the browser."""
    return ",".join(map(str, numbers))


def lay_out(pieces: list[str]) -> tuple[list[str], list[int]]:
    """What to print of each token, and where: `line * 1000 + column`, wrapped at `COLUMNS`.

    Lines of the text are kept where they fit into `LINES`; otherwise a line's end is printed as ⏎
    and the text runs on.
    """
    for keep_lines in (True, False):
        shown, places, line, column = [], [], 0, 0
        for piece in pieces:
            head, newline, tail = piece.replace("\r", "").replace("\t", "  ").partition("\n")
            text = head + ("⏎" if newline else "")
            if column + len(text) > COLUMNS and column:
                line, column = line + 1, 0
            shown.append(text[:COLUMNS])
            places.append(line * 1000 + column)
            column += len(text)
            if newline and keep_lines:
                line, column = line + 1, min(len(tail.rpartition("\n")[2]), COLUMNS // 2)
        if line < LINES:
            break
    return shown, [min(place, (LINES - 1) * 1000 + place % 1000) for place in places]


def unpacked(chart: alt.Chart, **lists: str) -> alt.Chart:
    """A row a token, of rows that pack `tokens`, `places` and more, with where it is drawn.

    `lists` names the fields of other packed numbers, one a token: `after="losses"`.
    """
    split = {name: f"split(datum.{field}, ',')" for name, field in lists.items()}
    return (
        chart.transform_calculate(
            token=f"split(datum.tokens, '{SEPARATOR}')", place="split(datum.places, ',')", **split
        )
        .transform_flatten(["token", "place", *lists])
        .transform_calculate(
            # Drawn text loses its leading blanks: it starts where its first letter stands.
            letters="replace(datum.token, /^\\s+/, '')",
            start="datum.place % 1000 + length(datum.token) - length(datum.letters)",
            printed="replace(datum.letters, /\\s/g, '\\u00a0')",
            line="floor(datum.place / 1000)",
            column="datum.place % 1000",
            end="datum.place % 1000 + max(length(datum.token), 0.4)",
        )
    )


def token_layers(
    base: alt.Chart, tooltip: list[alt.Tooltip], lines: int
) -> tuple[alt.Chart, alt.Chart]:
    """The ground of each token, to be given a mark and a colour, and its text."""
    scale = alt.Scale(domain=[-0.5, lines - 0.5], reverse=True, nice=False)
    ground = base.transform_calculate(top="datum.line - 0.5", bottom="datum.line + 0.5").encode(
        x=alt.X("column:Q", axis=None, scale=alt.Scale(domain=[0, COLUMNS], nice=False)),
        x2="end:Q",
        y=alt.Y("top:Q", axis=None, scale=scale),
        y2="bottom:Q",
        tooltip=tooltip,
    )
    text = base.mark_text(
        align="left", baseline="middle", font="monospace", fontSize=CHARACTER / 0.602, color=INK
    ).encode(
        x=alt.X("start:Q", axis=None),
        y=alt.Y("line:Q", axis=None, scale=scale),
        text="printed:N",
        tooltip=tooltip,
    )
    return ground, text


def coloured_text(
    base: alt.Chart,
    colour: alt.Color,
    tooltip: list[alt.Tooltip],
    lines: int,
    *,
    opacity: float,
    picker: alt.Parameter,
    title: alt.Title,
) -> alt.LayerChart:
    """A text whose tokens stand on a ground of `colour`; `picker` chooses which text."""
    ground, text = token_layers(base, tooltip, lines)
    return (
        alt.layer(ground.mark_rect(opacity=opacity).encode(color=colour), text)
        .add_params(picker)
        .properties(
            width=WIDTH,
            height=int(lines * LINE),
            view=alt.ViewConfig(fill="#ffffff"),
            title=title,
        )
    )
