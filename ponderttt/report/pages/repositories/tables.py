"""The repositories' page in numbers."""

from ponderttt.experiments.repositories.conditions import BASE, CARRIED
from ponderttt.report.display import markdown
from ponderttt.report.display.claims import millinats
from ponderttt.result import Result

PARTS = {"whole": "gain", "first": "first third", "second": "second third", "last": "last third"}
_SHOWN = 12


def gains(result: Result) -> markdown.Markdown:
    """The gain of every condition, whole and by thirds, for each source and for all code."""
    table = result.tables["gains"]
    rows = []
    for source in dict.fromkeys(table["source"]):
        for condition in dict.fromkeys(table["condition"]):
            part = table[(table["source"] == source) & (table["condition"] == condition)]
            if condition == BASE or part.empty:
                continue
            of_part = part.set_index("part").to_dict("index")
            rows.append(
                [
                    "all code" if source == "all" else str(source),
                    str(condition),
                    *(millinats(of_part[name]) for name in PARTS),
                    str(int(of_part["whole"]["n"])),
                ]
            )
    return markdown.join(
        f"**Gain over the base at its full window** of {int(result.scalars['window']):,} tokens, "
        "in thousandths of a nat per token with 95 % intervals by repository. "
        f"Carried: {result.scalars['recipe']}.",
        markdown.table(("source", "condition", *PARTS.values(), "n"), rows, left=2),
    )


def paired(result: Result) -> markdown.Markdown:
    """Two conditions on the same repositories: how much more one gains than the other."""
    rows = [
        [
            f"{row['condition']} against {row['against']}",
            PARTS[row["part"]].replace("gain", "whole"),
            millinats(row),
            str(row["n"]),
        ]
        for row in result.tables["paired"].to_dict("records")
    ]
    return markdown.join(
        "**Differences of gains** on the same repositories of code, thousandths of a nat, with "
        "95 % intervals by repository.",
        markdown.table(("", "part", "difference", "n"), rows, left=2),
    )


def kinds(result: Result) -> markdown.Markdown:
    """Where the gain comes from: pairs of tokens met before in the repository, or never."""
    rows = [
        [
            str(row["kind"]),
            f"{row['share']:.0%}",
            f"{row['loss']:.2f}",
            millinats(row),
            f"{1e3 * row['of_all']:.1f}",
        ]
        for row in result.tables["tokens"].to_dict("records")
    ]
    return markdown.join(
        "**Tokens by whether they followed their predecessor before** in the same repository of "
        "code: their share, loss under the base, gain of a token (thousandths of a nat, 95 % "
        "intervals by repository), and what they add to the whole gain.",
        markdown.table(("the pair was read", "share", "loss", "gain", "of the whole"), rows),
    )


def repositories(result: Result) -> markdown.Markdown:
    """Every test repository: its loss and its gain."""
    table = result.tables["documents"]
    base = table[table["condition"] == BASE].set_index(["source", "repository"])["loss"]
    rows = [
        [
            row["source"],
            row["repository"],
            f"{row['tokens']:,}",
            f"{base[row['source'], row['repository']]:.3f}",
            *(f"{1e3 * row[name]:+.1f}" for name in ("gain", "gain_first", "gain_last")),
        ]
        for row in table[table["condition"] == CARRIED].to_dict("records")
    ]
    return markdown.join(
        "**Every test repository**, fast weights carried: loss of the base in nats, gain in "
        "thousandths of a nat.",
        markdown.table(
            ("source", "repository", "tokens", "loss", "gain", "first third", "last third"),
            rows,
            left=2,
        ),
    )


def gainers(result: Result) -> markdown.Markdown:
    """The tokens that gained most in the explorer's repositories."""
    rows = []
    for name, part in result.tables["gainers"].groupby("repository", sort=False):
        rows += [
            [
                str(name),
                f"`{_visible(row['text'])}`",
                str(row["times"]),
                f"{row['loss']:.2f}",
                f"{row['gain']:+.1f}",
            ]
            for row in part.head(_SHOWN).to_dict("records")
        ]
    return markdown.join(
        "**Tokens that gained most** together: how often they occur, their mean loss under the "
        "base, and the sum of their gains in nats.",
        markdown.table(("repository", "token", "times", "loss", "gained"), rows, left=2),
    )


def _visible(text: str) -> str:
    """A token's text with its blanks made visible."""
    return text.replace("`", "'").replace("\n", "↵").replace("\t", "⇥").replace(" ", "·") or "∅"
