"""Notebooks (.ipynb) as text: what was written into their cells, and nothing that they gave."""

import json
from typing import Any

from ponderttt.data.text import NotText, plain


def notebook_text(content: str) -> str:
    r"""The source of a notebook's code and markdown cells in order, a blank line between two.

    Outputs, attachments and raw cells are left out. Both layouts of the format are read: `cells`,
    and `worksheets` before version 4. What is no notebook is `NotText`.

    >>> notebook_text('{"cells": [{"cell_type": "code", "source": ["x = 1\\n", "x"]}]}')
    'x = 1\nx\n'
    """
    try:
        book = json.loads(content)
        sheets = [book] if "cells" in book else book["worksheets"]
        parts = [_source(cell) for sheet in sheets for cell in sheet["cells"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotText("not a notebook") from error
    text = "\n\n".join(part.strip("\n") for part in parts if part.strip())
    if "\0" in text:
        raise NotText("binary")
    return plain(text) + "\n" if text else ""


def _source(cell: Any) -> str:
    """What was written into a cell; a `TypeError` or `KeyError` where it is none."""
    kind = cell["cell_type"]
    if kind not in ("code", "markdown", "heading"):
        return ""
    source = cell["source"] if "source" in cell else cell["input"]
    return source if isinstance(source, str) else "".join(source)
