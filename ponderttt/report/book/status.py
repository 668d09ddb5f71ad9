"""The status table: what each published page is made of, read from the manifests beside it."""

import json
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ponderttt.report.display import markdown

MISSING = "–"


class Status(SphinxDirective):
    """`{experiment-status}`: a table with one row a notebook, and what the records say of it."""

    def run(self) -> list:
        """Parse the table as the page's own Markdown."""
        results = Path(self.env.srcdir) / "results"
        manifests = sorted(results.glob("*/page.json"))
        for path in manifests:
            self.env.note_dependency(str(path))
        text = "\n\n".join([overview(manifests), *map(details, manifests)])
        return self.parse_text_to_nodes(text)


def overview(manifests: list[Path]) -> markdown.Markdown:
    """Notebook, verdict of its gate, preset, seconds, device and commit."""
    rows = []
    for path in manifests:
        page, meta = json.loads(path.read_text()), _record(path).get("meta", {})
        mark = "✓ pass" if page["status"] == "pass" else "✗ fail"
        rows.append(
            (
                f"[{page['name']}](experiments/{page['name']})",
                mark,
                page["preset"],
                f"{page['seconds']:.0f}",
                str(meta.get("device", MISSING)),
                f"`{str(meta.get('commit', MISSING))[:10]}`",
            )
        )
    heads = ("notebook", "gate", "preset", "seconds", "device", "commit")
    return markdown.table(heads, rows, left=6)


def details(path: Path) -> markdown.Markdown:
    """The configuration and the versions behind one page, and what its gate complained of."""
    page, record = json.loads(path.read_text()), _record(path)
    blocks = [f":::{{dropdown}} {page['name']}: parameters, versions, record"]
    if page["problems"]:
        blocks.append("\n".join(f"* {problem}" for problem in page["problems"]))
    if record:
        versions = record["meta"].get("versions", {})
        config = [(f"`{key}`", f"`{value}`") for key, value in record["config"].items()]
        blocks += [
            markdown.table(("parameter", "value"), config, left=2),
            "Versions: " + ", ".join(map(" ".join, versions.items())) + ".",
            f"Record: `{record['hash'][:16]}`, {len(record['tables'])} tables.",
        ]
    return markdown.join(*blocks, ":::")


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("experiment-status", Status)


def _record(manifest: Path) -> dict:
    path = manifest.with_name("record.json")
    return json.loads(path.read_text()) if path.exists() else {}
