"""The Sphinx extension of the book: charts, formulas, status and reference, with no network."""

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from ponderttt.report.book import (api, mathml, status, vegalite)
from ponderttt.report.book.vegalite import VegaLite

__all__ = ["VegaLite", "setup"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Hook every part of the extension into Sphinx."""
    for part in (api, mathml, status, vegalite):
        part.setup(app)
    app.connect("config-inited", _disconnect_thebe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _disconnect_thebe(app: Sphinx, _: Config) -> None:
    """Unhook the live-code extension that Jupyter Book loads: it names a CDN on every page."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
