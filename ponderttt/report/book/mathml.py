"""Formulas as MathML, which browsers draw themselves: no script, no fonts from elsewhere."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number


def setup(app: Sphinx) -> None:
    """Register the renderer `mathml` (chosen by `html_math_renderer`)."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))


def _inline(translator, node: nodes.math) -> None:
    translator.body.append(f'<span class="math">{convert(node.astext())}</span>')
    raise nodes.SkipNode


def _block(translator, node: nodes.math_block) -> None:
    identifier = f' id="{node["ids"][0]}"' if node["ids"] else ""
    number = ""
    if node.get("number"):
        number = f'<span class="eqno">({get_node_equation_number(translator, node)})</span>'
    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="math"{identifier}>{formula}{number}</div>\n')
    raise nodes.SkipNode
