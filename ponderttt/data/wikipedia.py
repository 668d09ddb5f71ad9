"""Wikipedia articles as plain prose: a dump's XML in, titles and readable text out."""

import bz2
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Tag, Template, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

# An article's prose ends where its apparatus begins.
_APPARATUS = re.compile(
    r"^==+\s*(?:See also|References?|Notes|Footnotes|Citations|Sources|External links|"
    r"Bibliography|Further reading|Works cited|Gallery)[^=\n]*==+\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_HIDDEN_TAGS = frozenset(
    "ref table gallery math chem score timeline imagemap syntaxhighlight source references".split()
)
_HIDDEN_LINKS = re.compile(r"\s*(?:file|image|media|category|[a-z]{2,3}(?:-[a-z]+)?)\s*:", re.I)
# Templates that stand for words of the sentence they are in: name -> the parameters that are read.
_SPOKEN_TEMPLATES = {
    "convert": ("1", "2"), "cvt": ("1", "2"), "lang": ("2",), "transl": ("2",),
    "nowrap": ("1",), "nobr": ("1",), "nihongo": ("1",), "em": ("1",), "abbr": ("1",),
    "val": ("1",), "circa": ("1",), "frac": ("1", "2"), "small": ("1",), "sic": ("1",),
}  # fmt: skip


def read_dump(path: Path) -> Iterator[tuple[str, str]]:
    """(title, text) of every article in the bz2-compressed dump at `path`, redirects left out."""
    with bz2.open(path) as dump:
        for _, element in ElementTree.iterparse(dump):
            if element.tag.endswith("}page"):
                text = element.findtext(".//{*}text") or ""
                if element.find("{*}redirect") is None and element.findtext("{*}ns") == "0":
                    yield element.findtext("{*}title") or "", plain_text(text)
                element.clear()


def plain_text(markup: str) -> str:
    """The prose of an article: no tables, references, pictures or lists of sources."""
    apparatus = _APPARATUS.search(markup)
    markup = markup[: apparatus.start()] if apparatus else markup
    return _tidy(_spoken(mwparserfromhell.parse(markup, skip_style_tags=False)))


def _spoken(code: Wikicode | None) -> str:
    """The text that a reader of the rendered page would read aloud."""
    parts: list[str] = []
    for node in code.nodes if code is not None else ():
        match node:
            case Text():
                parts.append(node.value)
            case HTMLEntity():
                parts.append(node.normalize() or "")
            case Heading():
                parts.append(f"\n\n{_spoken(node.title).strip()}\n\n")
            case Wikilink() if not _HIDDEN_LINKS.match(str(node.title)):
                parts.append(_spoken(node.title if node.text is None else node.text))
            case ExternalLink() if node.brackets:
                parts.append(_spoken(node.title))
            case Tag() if str(node.tag).strip().lower() not in _HIDDEN_TAGS:
                parts.append(str(node.wiki_markup) + " " if node.tag == "li" else "")
                parts.append("\n" if node.tag == "br" else _spoken(node.contents))
            case Template():
                names = _SPOKEN_TEMPLATES.get(str(node.name).strip().lower(), ())
                values = [_spoken(node.get(n).value).strip() for n in names if node.has(n)]
                parts.append(" ".join(values))
    return "".join(parts)


def _tidy(text: str) -> str:
    """Close the holes that removed markup leaves: empty brackets, doubled blanks, bare bullets."""
    text = text.replace("\u00a0", " ")
    text = re.sub(r"<ref\b.*?</ref>|\[\[(?:File|Image):.*", "", text)
    text = re.sub(r"^[ \t]*(?:\{\||\|[-}+|]?|!).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\((?:[\s,;:]|or|and)*\)|\[\s*\]", "", text)
    text = re.sub(r"\(\s*[,;:]\s*", "(", text)
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r" +([,.;:)])", r"\1", text)
    text = re.sub(r"^[ \t*#:;|]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ +| +$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
