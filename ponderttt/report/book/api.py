"""The reference: `.. package:: ponderttt.data` documents every module of a package.

Docstrings here are plain text with `names` in single backticks and indented formulas, readable as
they stand in the source; `as_rst` turns that into what Sphinx reads, so that none breaks a page.
"""

import importlib
import inspect
import pkgutil
import re

from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Package(SphinxDirective):
    """Documents the package (or module) that its argument names, module by module."""

    required_arguments = 1

    def run(self) -> list:
        """Put one section for each module with public names in place of the directive."""
        lines: list[str] = []
        for name in modules(self.arguments[0]):
            title = f"``{name.removeprefix('ponderttt.')}``"
            lines += [title, "-" * len(title), "", f".. automodule:: {name}"]
            lines += ["   :members:", ""]
        self.state_machine.insert_input(StringList(lines, "api"), "api")
        return []


def modules(name: str) -> list[str]:
    """`name` and the modules below it that define something public themselves."""
    root = importlib.import_module(name)
    below = pkgutil.walk_packages(getattr(root, "__path__", []), f"{name}.")
    return [each for each in (name, *(module.name for module in below)) if _documented(each)]


def as_rst(lines: list[str]) -> list[str]:
    """A plain docstring as reStructuredText: code in backticks, indented text as it stands."""
    out: list[str] = []
    literal = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not literal:
            out += ["", "::", ""]
        elif literal and line.strip() and not indented:
            out.append("")
        if line.strip():
            literal = indented
        out.append(line if literal else _inline(line))
    return out


def setup(app: Sphinx) -> None:
    """Register the directive and the translation of docstrings."""
    app.add_directive("package", Package)
    app.connect("autodoc-process-docstring", _translate)
    app.connect("autodoc-skip-member", _skip)


def _documented(name: str) -> bool:
    module = importlib.import_module(name)
    public = (value for key, value in vars(module).items() if not key.startswith("_"))
    return any(
        inspect.isroutine(value) or inspect.isclass(value)
        for value in public
        if getattr(value, "__module__", None) == name
    )


def _inline(line: str) -> str:
    bullet = re.match(r"\s*[*-] ", line)
    start = bullet.group() if bullet else ""
    code = re.split(r"(`+[^`]+`+)", line[len(start) :])
    return start + "".join(
        f"``{part.strip('`')}``" + "\\ " if index % 2 else re.sub(r"([*_|`\\])", r"\\\1", part)
        for index, part in enumerate(code)
    )


def _skip(app, what: str, name: str, obj, skip: bool, options) -> bool | None:
    """Leave out what a NamedTuple says of its fields: they are in its signature."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def _translate(app, what: str, name: str, obj, options, lines: list[str]) -> None:
    lines[:] = as_rst(lines)
