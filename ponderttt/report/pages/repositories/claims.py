"""What the repositories' page claims: the same sentences whatever came out."""

import numpy as np

from ponderttt.experiments.repositories.conditions import (
    BASE,
    BOTH,
    CACHE,
    CARRIED,
    NOTHING,
    OTHER,
    OWN,
    PLAIN,
    RESET,
    SHUFFLED,
)
from ponderttt.experiments.repositories.tables import difference
from ponderttt.prepare.repositories import PROSE
from ponderttt.report.display.claims import (
    ABOVE_ZERO,
    Claim,
    paired_gain,
    to_markdown,
)
from ponderttt.report.display.markdown import Markdown
from ponderttt.result import Result


def claims(result: Result) -> list[Claim]:
    """Whether a reader goes on gaining, over what, and what it is that it learns."""
    documents = result.tables["documents"]
    code = documents[~documents["source"].isin(PROSE)]
    carried = code[code["condition"] == CARRIED].set_index(["source", "repository"])
    thirds = {part: carried[f"gain_{part}"] for part in ("first", "second", "last")}
    found = [
        ("Carried fast weights gain over the base at its full window.", carried["gain"]),
        (
            "They gain more in the last third of a repository than in the second.",
            thirds["last"] - thirds["second"],
        ),
        (
            "They gain more in the last third of a repository than in the first.",
            thirds["last"] - thirds["first"],
        ),
    ]
    pairs = {
        RESET: "Carrying them across files gains more than resetting them at each file.",
        SHUFFLED: "Files in the order of their paths gain more than shuffled ones.",
        PLAIN: "The chosen rule gains more than normalised steps on the same weights.",
        CACHE: "They gain more than the continuous cache.",
    }
    found += [
        (sentence, difference(code, CARRIED, other))
        for other, sentence in pairs.items()
        if other in set(code["condition"])
    ]
    found.append(("They gain beside the continuous cache too.", difference(code, BOTH, CACHE)))
    halves = result.tables["halves"].rename(columns={"before": "condition"})
    known = set(halves["condition"])
    for first, second, sentence in (
        (OWN, OTHER, "A repository's own first half helps its second more than another's does."),
        (OTHER, NOTHING, "Another repository's first half helps more than nothing does."),
    ):
        if first in known and second in known:
            found.append((sentence, difference(halves, first, second)))
    return [Claim(sentence, ABOVE_ZERO, paired_gain(gain)) for sentence, gain in found]


def conclusions(result: Result) -> Markdown:
    """The claims with their verdicts."""
    return to_markdown(claims(result))


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    bins, files, rivals = (result.tables[name] for name in ("bins", "files", "rivals"))
    whole = bins[bins["condition"] == BASE]
    tokens = bins.groupby(["source", "repository", "condition"])["tokens"].sum().unstack()
    shares = result.tables["tokens"]["share"].sum()
    by_window = rivals.groupby(["window", "learns"])["flops"].mean().unstack()
    lines = [
        f"repositories: {bins.groupby('source')['repository'].nunique().to_dict()}",
        f"conditions: {', '.join(sorted(bins['condition'].unique()))}",
        f"the base gains nothing over itself: {bool((whole['gain'] == 0).all())}",
        f"every condition read the same tokens: {bool((tokens.nunique(axis=1) == 1).all())}",
        f"files hold all tokens: {bool(files['tokens'].sum() == whole['tokens'].sum())}",
        f"kinds of tokens add up to 1: {bool(np.isclose(shares, 1))}",
        f"updates cost FLOPs at every window: {bool((by_window[True] > by_window[False]).all())}",
    ]
    return "\n".join(lines)
