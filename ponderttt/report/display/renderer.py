"""How a chart reaches a page: one mime bundle, one look, the same bytes every time.

A chart is emitted twice: as a Vega-Lite specification, which JupyterLab and the book draw as an
interactive chart, and as an SVG image for whatever draws neither. Nothing is fetched, and nothing
in the output is random, so a notebook run twice gives the same page.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from ponderttt.storage import atomic_path, write_text

VEGALITE_MIME = "application/vnd.vegalite.v5+json"
VEGALITE_VERSION = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
MAX_ROWS = 500

# Okabe and Ito's colours, told apart by every kind of colour vision, on paper and on a dark page.
GREY, SKY, GREEN, VERMILION = "#8c8c8c", "#56b4e9", "#009e73", "#d55e00"
BLUE, PURPLE, ORANGE = "#0072b2", "#cc79a7", "#e69f00"

SOURCE_COLOURS = [BLUE, GREEN, ORANGE, PURPLE]
ACTION_COLOURS = {"SKIP": GREY, "UPDATE_1": SKY, "UPDATE_2": GREEN, "UPDATE_4": VERMILION}

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


def mime_bundle(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
    """The mime bundle of a Vega-Lite specification: the specification and its picture as SVG."""
    on_paper = {**spec, "config": {**spec.get("config", {}), "background": "white"}}
    svg = vl_convert.vegalite_to_svg(on_paper, vl_version=VEGALITE_VERSION)
    return {VEGALITE_MIME: spec, "image/svg+xml": _renumber(svg)}


def _renumber(svg: str) -> str:
    """`svg` with its ids counted from 0: the converter's depend on what it drew before."""
    found = re.findall(r'id="((?:gradient_|clip)\d+)"', svg)
    number = {old: f"part{index}" for index, old in enumerate(dict.fromkeys(found))}
    return re.sub(r"\b(?:gradient_|clip)\d+\b", lambda match: number.get(match[0], match[0]), svg)


@alt.theme.register("ponderttt", enable=False)
def theme() -> alt.theme.ThemeConfig:
    """The look of every chart; text and grid colours are set by the page, light or dark."""
    return {
        "config": {
            "background": "transparent",
            "font": FONT,
            "view": {"stroke": None},
            "style": {"ink": {"color": "#222222"}},  # type: ignore[typeddict-unknown-key]
            "title": {"anchor": "start", "fontSize": 15, "fontWeight": 600, "offset": 12,
                      "subtitleFontSize": 12, "subtitlePadding": 5},
            "axis": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal",
                     "titlePadding": 8, "gridOpacity": 0.35, "tickSize": 4, "domain": False},
            "header": {"labelFontSize": 12, "labelFontWeight": 600, "titleFontSize": 12,
                       "labelPadding": 6},
            "legend": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal",
                       "orient": "top", "symbolStrokeWidth": 2.5, "padding": 0},
        }
    }  # fmt: skip


def enable() -> None:
    """Make every chart of this kernel look and render as the pages need it."""
    alt.theme.enable("ponderttt")
    alt.data_transformers.enable("default", max_rows=MAX_ROWS)
    alt.renderers.register("ponderttt", mime_bundle)
    alt.renderers.enable("ponderttt")


def source_scale(names: Sequence[Any]) -> alt.Scale:
    """The colours of kinds of text (or of whatever else is as many)."""
    return alt.Scale(domain=list(names), range=SOURCE_COLOURS[: len(names)])


def action_scale(names: Sequence[str]) -> alt.Scale:
    """The colours of actions; what is none of them is purple."""
    colours = [ACTION_COLOURS.get(name, PURPLE) for name in names]
    return alt.Scale(domain=list(names), range=colours)


def zero_rule(channel: str) -> alt.Chart:
    """A dashed line at 0 along `channel` (x or y)."""
    return (
        alt.Chart(alt.InlineData(values=[{}]))
        .mark_rule(strokeDash=[3, 3], color=GREY)
        .encode(**{channel: alt.datum(0)})
    )


def save_pictures(charts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Each chart as `<name>.png` and as `<name>.html`, which draws without a network."""
    written = []
    for name, chart in charts.items():
        spec = {**chart.to_dict(), "background": "white"}
        picture, page = folder / f"{name}.png", folder / f"{name}.html"
        with atomic_path(picture) as temporary:
            temporary.write_bytes(
                vl_convert.vegalite_to_png(spec, vl_version=VEGALITE_VERSION, scale=2)
            )
        html = vl_convert.vegalite_to_html(spec, vl_version=VEGALITE_VERSION, bundle=True)
        write_text(page, html)
        written += [picture, page]
    return written
