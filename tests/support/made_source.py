"""Sources made up here, small ones: packages, folders of Go and articles, each under its name."""

import random

import pytest

from ponderttt.data import sources
from ponderttt.data.clean import Text
from ponderttt.data.sources import Source


def made_source(texts: dict[str, str], **options) -> Source:
    """A source of these texts by their paths."""
    rows = [Text(text, path, "python") for path, text in texts.items()]
    versions = {"texts": str(hash(tuple(texts.items())))}
    return Source(lambda: rows, lambda: versions, "made here", min_characters=1, **options)


def words(seed: str, size: int) -> str:
    """So many characters of code, of drawn names."""
    draw = random.Random(seed)
    return "".join(f"some_value_{draw.randrange(10**9)} = compute_it()\n" for _ in range(size))[
        :size
    ]


def make_sources(patch: pytest.MonkeyPatch, *, size: int = 70) -> None:
    """`packages` and `go` of 60 repositories of three files of `size` characters, and `leads`.

    Leads have the split of their source: these are all of the last one.
    """
    for source in ("packages", "go"):
        texts = {
            f"{source}{p}/{f}.py": words(f"{source} {p} {f}", size)
            for p in range(60)
            for f in range(3)
        }
        patch.setitem(sources.SOURCES, source, made_source(texts))
    leads = {f"article {i}": words(f"article {i}", 5 * size) for i in range(20)}
    patch.setitem(sources.SOURCES, "leads", made_source(leads, shares=(0, 0, 100)))
