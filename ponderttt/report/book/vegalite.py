"""Charts in the book: each becomes a `div.vegalite`, which one local script draws."""

import json
from pathlib import Path
from typing import Any, ClassVar

import vl_convert
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

from ponderttt.report.display.renderer import (VEGALITE_MIME, VEGALITE_VERSION)
from ponderttt.storage import write_text

STATIC = Path(__file__).parent / "static"
SCRIPT = "vegalite.js"


class VegaLite:
    """MyST-NB's mime renderer of Vega-Lite specifications (an entry point in pyproject.toml)."""

    mime_priority_overrides: ClassVar = [("html", VEGALITE_MIME, 0)]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        """The chart's `div` with its specification inside; None for every other mime type."""
        if data.mime_type != VEGALITE_MIME:
            return None
        # "</" would end the script element that holds the specification.
        spec = json.dumps(data.content, ensure_ascii=False, separators=(",", ":"))
        spec = spec.replace("</", "<\\/")
        html = f'<script type="application/json">{spec}</script>'
        # Sphinx writes a raw node that has a class inside a div of that class.
        return [nodes.raw("", html, format="html", classes=["vegalite"])]


def setup(app: Sphinx) -> None:
    """Write the script and the style sheet, and load the script on pages that have charts."""
    app.connect("config-inited", _add_static)
    app.connect("html-page-context", _load_script)
    app.add_css_file("book.css")


def bundle() -> str:
    """Vega, Vega-Lite, Vega-Embed and our drawing code in one script that adds no global name."""
    snippet = (STATIC / "draw.js").read_text(encoding="utf-8")
    code = vl_convert.javascript_bundle(snippet, vl_version=VEGALITE_VERSION)
    return f"(function () {{\n{code}\n}})();\n"


def _add_static(app: Sphinx, config: Config) -> None:
    generated = Path(app.doctreedir).parent / "vegalite"
    write_text(generated / SCRIPT, bundle())
    write_text(generated / "book.css", (STATIC / "book.css").read_text(encoding="utf-8"))
    config.html_static_path.append(str(generated))


def _load_script(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    raw = doctree.findall(nodes.raw) if doctree is not None else ()
    if any("vegalite" in node["classes"] for node in raw):
        app.add_js_file(SCRIPT, loading_method="defer")
