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
    """Notebook, verdict of its gate, preset, seconds of computing, device and commit.

    The seconds are those of the run and of what it took from the cache, by whichever run that was
    computed; not those of rendering the page again.
    """
    rows = []
    for path in manifests:
        page, meta = json.loads(path.read_text()), _record(path).get("meta", {})
        cached = meta.get("cached")
        mark = "✓ pass" if page["status"] == "pass" else "✗ fail"
        rows.append(
            (
                f"[{page['name']}](experiments/{page['name']})",
                mark,
                page["preset"],
                f"{page['seconds'] + cached['seconds']:,.0f}" if cached
                else f"≥ {page['seconds']:,.0f}",
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
        blocks += _provenance(page, record["meta"].get("cached"))
    return markdown.join(*blocks, ":::")


def _provenance(page: dict, cached: dict | None) -> list[str]:
    """What came from the cache, and whether the page was rendered again since."""
    said = []
    if cached and cached["values"]:
        commits = ", ".join(f"`{commit[:10]}`" for commit in cached["commits"])
        said.append(
            f"Of the cache: {cached['values']:,} values, computed in {cached['seconds']:,.0f} s "
            f"at {commits}; the run itself took {page['seconds']:,.0f} s."
        )
    if page.get("rendered"):
        said.append(f"Rendered from the record at `{page['rendered'][:10]}`, computing nothing.")
    return said


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("experiment-status", Status)


def _record(manifest: Path) -> dict:
    path = manifest.with_name("record.json")
    return json.loads(path.read_text()) if path.exists() else {}
