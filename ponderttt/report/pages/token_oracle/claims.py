"""What the token oracle's page claims: the same sentences whatever came out."""

import numpy as np

from ponderttt.report.display.claims import (
    ABOVE_ZERO,
    CORRELATED,
    Claim,
    Evidence,
    Test,
    to_markdown,
)
from ponderttt.report.display.markdown import Markdown
from ponderttt.result import Result

OVER_HORIZON = Test(
    ABOVE_ZERO.description, ABOVE_ZERO.decide, "effects in nats, summed over the horizon"
)


def claims(result: Result) -> list[Claim]:
    """Whether more steps at a token help what follows, and whether difficulty tells where."""
    last = result.tables["token_optimal"].set_index("option").iloc[-1]
    found = [
        Claim(
            f"{last.name} at a single token gives lower loss over the horizon than K4 there.",
            OVER_HORIZON,
            Evidence(last["gain"], last["low"], last["high"], int(last["documents"])),
        )
    ]
    return found + [
        Claim(
            f"The higher the loss of the token just read, the higher the {row['target']}.",
            CORRELATED,
            Evidence(row["rho"], row["low"], row["high"], int(row["n"])),
        )
        for row in result.tables["token_difficulty"].to_dict("records")
    ]


def conclusions(result: Result) -> Markdown:
    """The claims with their verdicts."""
    return to_markdown(claims(result))


def check(result: Result) -> str:
    """What must come out the same on every machine: shapes, counts, orderings; no measurement."""
    optimal, frontier = result.tables["token_optimal"], result.tables["token_frontier"]
    gain = optimal.set_index("option")["gain"]
    lines = [f"{name}: {len(table)} rows" for name, table in sorted(result.tables.items())]
    lines += [
        f"positions: {result.scalars['positions']} of {result.scalars['texts']} texts",
        f"shares of options add up to 1: {bool(np.isclose(optimal['share'].sum(), 1))}",
        f"K4 gains nothing over itself: {bool(gain['K4'] == 0)}",
        "choosing by token is never below the same K for all: "
        f"{bool((frontier['oracle'] >= frontier['same_for_all'] - 1e-9).all())}",
        "a larger mean K never costs the oracle: "
        f"{bool((np.diff(frontier['oracle']) >= -1e-9).all())}",
        "correlations within [-1, 1]: "
        f"{bool(result.tables['token_difficulty']['rho'].abs().max() <= 1)}",
    ]
    return "\n".join(lines)
