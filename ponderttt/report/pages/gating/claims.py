"""What the gating page claims: the same sentences whatever came out."""

from ponderttt.report.display import equal_cost as contest
from ponderttt.report.display import gap_claims, markdown
from ponderttt.report.display.claims import CORRELATED, Claim, Evidence, to_markdown
from ponderttt.result import Result


def claims(result: Result) -> list[Claim]:
    """Whether there is a gap, whether any signal captures some of it, whether signals tell."""
    return [
        *gap_claims.available_claims(result),
        *gap_claims.gap_claims(result, contest.methods(result)),
        *_signals(result),
    ]


def _signals(result: Result) -> list[Claim]:
    table = result.tables["signals"]
    main = table[(table["stream"] == contest.streams(result)[0]) & (table["source"] == "all")]
    return [
        Claim(
            f"{row['stream']}: the {row['signal']} of a unit correlates positively with the gain "
            f"of UPDATE_1 on {row['target']}.",
            CORRELATED,
            Evidence(row["rho"], row["low"], row["high"], int(row["n"])),
        )
        for row in main.to_dict("records")
    ]


def conclusions(result: Result) -> markdown.Markdown:
    """The claims with their verdicts."""
    return to_markdown(claims(result))


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    shares = result.tables["calibration"].groupby(["stream", "signal"])["share"].sum()
    rho = result.tables["signals"]["rho"]
    return "\n".join(
        [
            *gap_claims.check_contest(result),
            f"shares of actions add up to 1: {bool((abs(shares - 1) < 1e-6).all())}",
            f"correlations within [-1, 1]: {bool(rho.abs().max() <= 1)}",
        ]
    )
