"""The texts of language-modelling corpora, by split: from the hub, a local folder, or the wheels.

Nothing here tokenises: a text is an article with its title, or all of a split without headings.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ponderttt.data.hub import TIMEOUT, patiently
from ponderttt.data.readers import hub_answers
from ponderttt.data.sources import SPLITS, open_table
from ponderttt.data.text import NotText, decode_text, plain, printable
from ponderttt.errors import InputError
from ponderttt.storage import as_path


class Article(NamedTuple):
    """A text and its title."""

    title: str
    text: str


Splits = dict[str, list[Article]]

OFFLINE = ("wikipedia", "leads")
"""The sources that make the corpus "wikipedia"."""

LAYOUTS = ("wiki.{}.tokens", "wiki.{}.raw", "ptb.{}.txt", "{}.txt")
"""Names of a folder's files, for the split names of `_NAMES`."""

_NAMES = {
    "train": ("train",), "validation": ("valid", "validation", "val", "dev"), "test": ("test",)
}  # fmt: skip

# A level-1 heading stands between blank lines: " = 1 <unk> and <unk> C = " is a line of an article.
# A title ends in no "=", or it is that of a section. Blanks at the ends of lines may be gone.
_LINE = r"(?P<line>[ \t]*= (?P<title>[^\n]*[^\s=]) =[ \t]*(?:\n|\Z))"
_HEADING = re.compile(rf"(?:\A|^[ \t]*\n){_LINE}(?=[ \t]*(?:\n|\Z))", re.MULTILINE)
_UNSET_HEADING = re.compile(rf"^{_LINE}", re.MULTILINE)
_SECTION = re.compile(r"^[ \t]*= = (?:[^\n]*[^\s=]) = =[ \t]*$", re.MULTILINE)


class HubDataset(NamedTuple):
    """Where the hub keeps a corpus, and how its rows are put together again."""

    repository: str
    revision: str
    options: Mapping[str, Any]
    column: str
    line_end: str


HUB = {
    "wikitext-2": HubDataset(
        "Salesforce/wikitext", "main", {"name": "wikitext-2-raw-v1"}, "text", ""
    ),
    "wikitext-103": HubDataset(
        "Salesforce/wikitext", "main", {"name": "wikitext-103-raw-v1"}, "text", ""
    ),
    # On its main branch is a script, which datasets no longer runs.
    "ptb": HubDataset(
        "ptb-text-only/ptb_text_only",
        "refs/convert/parquet",
        {"data_files": {split: f"penn_treebank/{split}/*.parquet" for split in SPLITS}},
        "sentence",
        "\n",
    ),
}


def read_language(source: str | Path) -> tuple[Splits, dict[str, Any]]:
    """The articles of each split that `source` has, and what identifies what was read.

    `source` is "wikipedia", a name in `HUB` or a local folder in one of the `LAYOUTS`. A name or
    folder that is none of these, a hub out of reach or an unreadable file is an `InputError`.
    """
    name = str(source)
    if name == OFFLINE[0]:
        return _read_offline()
    if name in HUB:
        return _read_hub(name)
    folder = as_path(source, "the corpus")
    if not os.path.isdir(folder):
        raise InputError(
            f"unknown corpus {name!r}: expected wikipedia, {', '.join(HUB)} or a local folder"
        )
    return _read_folder(folder)


def check_language(source: str | Path) -> None:
    """An `InputError` unless `source` is a known name or a folder that exists."""
    known = (OFFLINE[0], *HUB)
    if str(source) not in known and not os.path.isdir(as_path(source, "the language source")):
        raise InputError(
            f"unknown language source {str(source)!r}: expected {OFFLINE[0]}, "
            f"{', '.join(HUB)}, or a folder of their files"
        )


def cut_articles(text: str, name: str) -> list[Article]:
    r"""The articles of a file in WikiText's format, cut at level-1 headings (`= Title =`).

    Each begins with its heading's line; a title that is there before gets a number. What is before
    the first heading, or all of a text that has none, goes by `name`.

    >>> text = " \n = A = \n \n One . \n = = B = = \n \n Two . \n \n = <unk> = \n \n Three . \n"
    >>> [article.title for article in cut_articles(text, "train")]
    ['A', '<unk>']
    >>> cut_articles(text, "train")[1].text
    ' = <unk> = \n \n Three . \n'
    """
    headings = list(_HEADING.finditer(text))
    starts = [heading.start("line") for heading in headings]
    bounds = [0, *starts, len(text)]
    titles = [name, *(heading["title"].strip() for heading in headings)]
    parts = [text[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    found = []
    for title, part in zip(titles, parts, strict=True):
        if not part.strip():
            continue
        numbered = title
        while numbered in taken:
            seen[title] += 1
            numbered = f"{title} ({seen[title] + 1})"
        taken.add(numbered)
        found.append(Article(numbered, part))
    return found


def _check_headings(text: str, file: Path) -> None:
    """An `InputError` where a file has lines like headings, and none stands between blank lines.

    What is a heading cannot be told there, and the file would be read as a single article.
    """
    like = _UNSET_HEADING.search(text)
    marked = file.name.startswith("wiki.") or _SECTION.search(text) is not None
    if like and marked and not _HEADING.search(text):
        raise InputError(
            f"{printable(file)} has lines like {like['line'].strip()!r} and none between blank "
            "lines, where a heading of an article stands: keep the blank lines of the file, or "
            "put one before and one behind each heading"
        )


def _read_offline() -> tuple[Splits, dict[str, Any]]:
    """Articles and leads, each in the split that the hash of its title gives it in both sources."""
    splits: Splits = {split: [] for split in SPLITS}
    records = {}
    for name in OFFLINE:
        table, record = open_table(name)
        rows = (table.column(column).to_pylist() for column in ("path", "text", "split"))
        for title, text, split in zip(*rows, strict=True):
            splits[split].append(Article(title, text))
        records[name] = {"versions": record["versions"], "sha256": record["sha256"]}
    return splits, records


def _read_hub(name: str) -> tuple[Splits, dict[str, Any]]:
    import datasets
    from huggingface_hub import HfApi

    repository, revision, options, column, line_end = HUB[name]
    with hub_answers(name, repository, "use 'wikipedia' or a local folder with its files"):
        api = HfApi()
        commit = patiently(
            lambda: api.dataset_info(repository, revision=revision, timeout=TIMEOUT).sha
        )
        found = datasets.load_dataset(repository, revision=commit, **options)
        # The hub's WikiText has "" where the files have a blank line.
        texts = {
            split: "".join((row or " \n") + line_end for row in found[split][column])
            for split in SPLITS
        }
    return {split: cut_articles(plain(texts[split]), f"{name}/{split}") for split in SPLITS}, {
        repository: str(commit)
    }


def _read_folder(folder: Path) -> tuple[Splits, dict[str, Any]]:
    splits, record = {}, {}
    for split, file in _find_splits(folder).items():
        name = printable(file)
        try:
            data = file.read_bytes()
            text = decode_text(data)
        except NotText as error:
            raise InputError(f"cannot read {name} ({error}); expected UTF-8 text") from error
        except OSError as error:
            raise InputError(
                f"cannot read {name} ({error.strerror or error}); make it readable"
            ) from error
        _check_headings(text, file)
        splits[split] = cut_articles(text, file.name)
        if not splits[split]:
            raise InputError(f"{name} is empty; expected the text of the {split} split")
        record[name] = hashlib.sha256(data).hexdigest()
    return splits, record


def _find_splits(folder: Path) -> dict[str, Path]:
    """The file of each split: all in one layout, and one a split."""
    layouts = []
    for layout in LAYOUTS:
        files = {
            split: [f for name in names if os.path.isfile(f := folder / layout.format(name))]
            for split, names in _NAMES.items()
        }
        layouts.append({split: found for split, found in files.items() if found})
    expected = ", ".join(layout.format("{train,valid,test}") for layout in LAYOUTS)
    present = [layout for layout in layouts if layout]
    files_of_splits = [files for layout in present for files in layout.values()]
    if not present:
        held = _names(folder)
        more = f" and {len(held) - 8} more" if len(held) > 8 else ""
        raise InputError(
            f"the folder {printable(folder)} is in no layout known here: it holds "
            f"{', '.join(held[:8]) or 'nothing'}{more}; expected one of {expected}"
        )
    if len(present) > 1 or any(len(files) > 1 for files in files_of_splits):
        held = [file.name for files in files_of_splits for file in files]
        raise InputError(
            f"the folder {printable(folder)} holds {', '.join(held)}: more than one file "
            f"may be meant; keep one layout ({expected}) with one file a split"
        )
    return {split: files[0] for split, files in present[0].items()}


def _names(folder: Path) -> list[str]:
    try:
        return sorted(printable(path.name) for path in folder.iterdir())
    except OSError as error:
        raise InputError(
            f"cannot list {printable(folder)} ({error.strerror or error}); make it readable"
        ) from error
