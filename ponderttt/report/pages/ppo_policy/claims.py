"""What the ppo_policy page claims: the same sentences whatever came out."""

import numpy as np

from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.report.display import equal_cost as contest
from ponderttt.report.display import gap_claims, markdown
from ponderttt.report.display.claims import (
    ABOVE_ZERO,
    NOT_SUPPORTED,
    SUPPORTED,
    Claim,
    Evidence,
    Test,
    to_markdown,
)
from ponderttt.result import Result

ERROR = 0.02
WITHIN = Test(
    f"mean distance from the budget is at most {ERROR:.0%}",
    lambda e: SUPPORTED if e.effect <= ERROR else NOT_SUPPORTED,
    "effects are shares of the budget, n seeds",
)
NEVER = Test(
    "count is 0", lambda e: SUPPORTED if e.effect == 0 else NOT_SUPPORTED, "effects are counts"
)
STEADIER = Test(ABOVE_ZERO.description, ABOVE_ZERO.decide, "effects are differences, n seeds")


def claims(result: Result) -> list[Claim]:
    """Whether there is a gap, what PPO and its rivals capture of it, and how the budget is kept."""
    return [
        *gap_claims.available_claims(result),
        *gap_claims.gap_claims(result, contest.methods(result)),
        *_versus(result),
        *_budgets(result),
        _steadier(result),
    ]


def _versus(result: Result) -> list[Claim]:
    return [
        Claim(
            f"{row['stream']}, budget {row['budget']:g}: PPO has lower test loss than "
            f"{contest.named(row['method'])} at equal cost.",
            ABOVE_ZERO,
            Evidence(row["gain"], row["low"], row["high"], int(row["n"])),
        )
        for row in result.tables["versus"].dropna(subset="gain").to_dict("records")
    ]


def _budgets(result: Result) -> list[Claim]:
    table = result.tables["seeds"]
    found = []
    for (stream, budget), part in table.groupby(["stream", "budget"], sort=False):
        found.append(
            Claim(
                f"{stream}, budget {budget:g}: PPO keeps its mean cost at the budget in the last "
                "quarter of training.",
                WITHIN,
                Evidence(float(part["trained_error"].mean()), np.nan, np.nan, len(part)),
            )
        )
    count = int(table["violations"].sum())
    sentence = "No seed exceeds any budget on any stream under the hard account."
    return [*found, Claim(sentence, NEVER, Evidence(count, np.nan, np.nan, len(table)))]


def _steadier(result: Result) -> Claim:
    """The deviation of the violation over the second half, velocity minus positional, by seed."""
    table = result.tables["spread"]
    main = contest.streams(result)[0]
    here = (table["stream"] == main) & (table["budget"] == contest.middle(result))
    spread = table[here].set_index(["form", "seed"])["deviation"]
    difference = (spread["velocity"] - spread["positional"]).to_numpy()
    interval = cluster_interval([difference])
    return Claim(
        f"{main}, budget {contest.middle(result):g}: the violation varies less under the "
        "positional PID than under the velocity form, over the second half of training.",
        STEADIER,
        Evidence(interval.mean, interval.low, interval.high, interval.n),
    )


def conclusions(result: Result) -> markdown.Markdown:
    """The claims with their verdicts."""
    return to_markdown(claims(result))


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    history, seeds = result.tables["history"], result.tables["seeds"]
    mix = history[["SKIP", "UPDATE_1", "UPDATE_2", "UPDATE_4"]].sum(axis=1)
    first = history[history["iteration"] == 1]
    return "\n".join(
        [
            *gap_claims.check_contest(result),
            f"shares of actions add up to 1: {bool((abs(mix - 1) < 1e-3).all())}",
            f"units that overdrew the hard account: {int(seeds['violations'].sum())}",
            "a policy over its budget is charged for it: "
            f"{bool((first['multiplier'][first['violation'] > 0] > 0).all())}",
            f"every number of the history is finite: {bool(np.isfinite(history['loss']).all())}",
        ]
    )
