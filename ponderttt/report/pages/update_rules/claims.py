"""What the page of the update rules claims: the same sentences whatever came out."""

from ponderttt.prepare.repositories import PROSE
from ponderttt.report.display.claims import (
    ABOVE_ZERO,
    NOT_NEGATIVE,
    Claim,
    Evidence,
    Test,
    paired_gain,
    to_markdown,
)
from ponderttt.report.display.markdown import Markdown
from ponderttt.report.pages.update_rules.names import gain_of, winner
from ponderttt.result import Result

WORSE = 0.005
"""Nats that a kind of text may lose."""


def claims(result: Result) -> list[Claim]:
    """Whether the chosen recipe gains, how much, where, and at what cost."""
    code = gain_of(result, "chosen")
    found = [
        Claim(
            "The chosen recipe gains over the base at its full window, on test repositories of "
            "code.",
            ABOVE_ZERO,
            Evidence(code["gain"], code["low"], code["high"], int(code["n"])),
        ),
        Claim(
            "It gains more in the last third of a repository than in the first.",
            ABOVE_ZERO,
            _growth(result),
        ),
    ]
    if "normalized" in set(result.tables["documents"]["shown"]):
        found.append(
            Claim(
                "It gains more than the best normalised step.",
                ABOVE_ZERO,
                _against(result, "normalized"),
            )
        )
    return found + [
        _at_least(code, "gain", 0.05),
        _at_least(code, "gain_last", 0.08),
        *_limits(result),
    ]


def _at_least(row: dict, column: str, least: float) -> Claim:
    part = column.partition("_")[2]
    where = "in the last third" if part else "on average"
    low, high = (f"{name}_{part}" if part else name for name in ("low", "high"))
    return Claim(
        f"It gains at least {least:g} nats per token {where}.",
        Test("margin is not negative", NOT_NEGATIVE.decide, "effects are gains less what is asked"),
        Evidence(row[column] - least, row[low] - least, row[high] - least, int(row["n"])),
    )


def _limits(result: Result) -> list[Claim]:
    table = result.tables["gains"]
    of_source = table[(table["shown"] == "chosen") & (table["source"] != "all")]
    worst = of_source.sort_values("gain", na_position="first").iloc[0]
    nothing = float("nan")
    return [
        Claim(
            f"No kind of text gets worse by more than {WORSE:g} nats per token.",
            NOT_NEGATIVE,
            Evidence(float(worst["gain"]) + WORSE, nothing, nothing, len(of_source)),
        ),
        Claim(
            "It adds at most half of a forward pass in FLOPs.",
            NOT_NEGATIVE,
            Evidence(0.5 - float(winner(result)["share"]), nothing, nothing, 1),
        ),
    ]


def _code(result: Result):
    documents = result.tables["documents"]
    return documents[~documents["source"].isin(PROSE)]


def _growth(result: Result) -> Evidence:
    chosen = _code(result).query("shown == 'chosen'").set_index(["source", "repository"])
    return paired_gain(chosen["gain_last"] - chosen["gain_first"])


def _against(result: Result, other: str) -> Evidence:
    wide = _code(result).pivot(index=["source", "repository"], columns="shown", values="gain")
    return paired_gain(wide["chosen"] - wide[other])


def conclusions(result: Result) -> Markdown:
    """The claims with their verdicts."""
    return to_markdown(claims(result))


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    recipes, bins = result.tables["recipes"], result.tables["bins"]
    first = result.tables["positions"].query("bin == 0")
    tokens = bins.groupby(["source", "repository", "shown"])["tokens"].sum().unstack()
    stages = recipes.groupby("stage", sort=False).size()
    unread = bool((first["gain"].abs() < 0.05).all())
    lines = [
        f"stages: {', '.join(stages.index)}",
        f"one winner, within the budget: {_within(result)}",
        f"every recipe read the same tokens: {bool((tokens.nunique(axis=1) == 1).all())}",
        f"hardly a gain where hardly anything was read: {unread}",
        f"repositories: {bins.groupby('source')['repository'].nunique().to_dict()}",
    ]
    return "\n".join(lines)


def _within(result: Result) -> bool:
    chosen = result.tables["recipes"].query("chosen")
    return len(chosen) == 1 and bool(
        (chosen["share"] <= float(result.scalars["flops_budget"])).all()
    )
