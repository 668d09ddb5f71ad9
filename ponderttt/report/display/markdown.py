"""Text that notebooks display: Markdown, so that the book typesets it like the rest of the page."""

from collections.abc import Iterable, Sequence


class Markdown(str):
    """A string that Jupyter displays as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Markdown:
    """A Markdown table; the first `left` columns are aligned left, the others right."""
    rule = [":--" if column < left else "--:" for column in range(len(headers))]
    lines = [_line(headers), _line(rule), *(_line(row) for row in rows)]
    return Markdown("\n".join(lines) + "\n")


def join(*blocks: str) -> Markdown:
    """Blocks of Markdown, one after the other, with a blank line between them."""
    return Markdown("\n\n".join(block.strip("\n") for block in blocks) + "\n")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
