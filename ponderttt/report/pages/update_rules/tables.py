"""The page of the update rules in numbers."""

import numpy as np

from ponderttt.report.display import markdown
from ponderttt.report.display.claims import millinats, signed_interval
from ponderttt.report.pages.update_rules.names import ranked, shown, tried
from ponderttt.result import Result

STAGES = {
    "pull": "pulled back to the start",
    "iterations": "cheaper orthogonal steps",
    "low rank": "low-rank additions to all projections",
    "cadence": "another cadence",
    "steps": "more steps",
}


def variants(result: Result) -> markdown.Markdown:
    """The best of each stage after the first, beside the best of the first, in training."""
    table = tried(result)
    first = ranked(table[table["stage"] == "rule"]).iloc[0]
    rows = [_variant("the best rule", first)]
    for stage, name in STAGES.items():
        part = ranked(table[table["stage"] == stage])
        rows += [_variant(name, row) for _, row in part.iterrows()]
    return markdown.join(
        "**Variants of the best rule** on training repositories: gain over the full window in "
        "thousandths of a nat, with its 95 % interval by repository, and what the recipe adds to "
        "a forward pass.",
        markdown.table(("", "recipe", "gain", "FLOPs"), rows, left=2),
    )


def _variant(name: str, row) -> list[str]:
    return [name, str(row["label"]), _gain(row), f"{row['share']:.0%}"]


def _gain(row) -> str:
    """The gain of a row of `tried`, which are thousandths already, its interval below it."""
    said = signed_interval(row["gain"], row["low"], row["high"], digits=1)
    return said.replace(" [", "<br>[")


def diverged(result: Result) -> markdown.Markdown:
    """The recipes under which a loss was not finite any more: where, and at which unit."""
    trials = result.tables["trials"]
    lost = trials[trials["diverged"] >= 0]
    if lost.empty:
        return markdown.Markdown("No recipe diverged: every loss that was read is finite.\n")
    rows = [
        [row["label"], f"{row['source']}: {row['repository']}", str(row["diverged"] + 1)]
        for row in lost.to_dict("records")
    ]
    return markdown.join(
        "**Recipes that diverged**: the first unit whose loss was not finite; what was read until "
        "then is kept in the record.",
        markdown.table(("recipe", "repository", "unit"), rows, left=2),
    )


def finalists(result: Result) -> markdown.Markdown:
    """The recipes that were read on validation repositories, the winner first."""
    table = ranked(tried(result, "validation"))
    rows = [
        [
            f"**{row['label']}**" if row["chosen"] else str(row["label"]),
            _gain(row),
            f"{row['share']:.0%}",
        ]
        for row in table.to_dict("records")
    ]
    budget = float(result.scalars["flops_budget"])
    return markdown.join(
        f"**Finalists** on validation repositories, thousandths of a nat; each adds at most "
        f"{budget:.0%} to a forward pass.",
        markdown.table(("recipe", "gain", "FLOPs"), rows),
    )


def gains(result: Result) -> markdown.Markdown:
    """Gain on test repositories by source, whole and in the last third."""
    table, names = result.tables["gains"], shown(result)
    rows = []
    for source in dict.fromkeys(table["source"]):
        for row in table[table["source"] == source].to_dict("records"):
            thirds = [
                {
                    "gain": row[f"gain_{part}"],
                    "low": row[f"low_{part}"],
                    "high": row[f"high_{part}"],
                }
                for part in ("first", "last")
            ]
            rows.append(
                [
                    "all code" if source == "all" else str(source),
                    str(row["shown"]),
                    millinats(row),
                    *(millinats(each) for each in thirds),
                    str(row["n"]),
                ]
            )
    said = "; ".join(f"*{name}*: {label}" for name, label in names.items())
    return markdown.join(
        "**Gain over the base at its full window** of "
        f"{int(result.scalars['window']):,} tokens on test repositories, thousandths of a nat per "
        f"token, with 95 % intervals by repository. {said}.",
        markdown.table(
            ("source", "recipe", "gain", "in the first third", "in the last third", "n"),
            rows,
            left=2,
        ),
    )


def stability(result: Result) -> markdown.Markdown:
    """How many test repositories lose, and how much the worst of them."""
    rows = [
        [
            row["shown"],
            f"{row['lose']} of {row['repositories']}",
            f"{1e3 * row['smallest']:+.1f}" if np.isfinite(row["smallest"]) else "not finite",
            row["of"],
            str(row["diverged"]),
        ]
        for row in result.tables["stability"].to_dict("records")
    ]
    return markdown.join(
        "**Stability** on test repositories, prose among them: how many lose, the smallest gain "
        "in thousandths of a nat, and how many diverged.",
        markdown.table(("recipe", "lose", "smallest gain", "of", "diverged"), rows),
    )


def costs(result: Result) -> markdown.Markdown:
    """What reading costs: FLOPs as counted, and seconds as measured on this machine."""
    recipes = result.tables["recipes"].set_index("label")["share"]
    rows = [
        [
            row["shown"],
            row["label"],
            f"{recipes[row['label']]:.0%}",
            f"{row['share']:.0%}",
            f"{1e6 * row['forward']:.0f}",
            f"{1e6 * (row['forward'] + row['learning'] - row['still']):.0f}",
        ]
        for row in result.tables["seconds"].to_dict("records")
    ]
    return markdown.join(
        "**What learning adds** to a forward pass of the same tokens, in FLOPs and in seconds of "
        f"this run (one file of {result.scalars['timed_units']} units, a step really run), and "
        "microseconds a token without and with it. FLOPs count the keys that a query meets on "
        f"repositories as long as the test ones: {result.scalars['keys']:,.0f} on average.",
        markdown.table(
            ("recipe", "", "FLOPs", "seconds", "forward, μs", "with learning, μs"), rows, left=2
        ),
    )
