"""The Sphinx extension of the book: charts, formulas, status and reference, with no network."""

from typing import Any

from sphinx.application import Sphinx

from ponderttt.report.book import api, mathml, status, vegalite
from ponderttt.report.book.vegalite import VegaLite

__all__ = ["VegaLite", "setup"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Hook every part of the extension into Sphinx."""
    for part in (api, mathml, status, vegalite):
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
