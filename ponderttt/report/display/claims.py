"""Claims: a sentence, the test that decides it, and the evidence; the verdict is computed.

A sentence about results never stands on a page without the three. A negative result is a result:
*not supported* says that the evidence points the other way, *inconclusive* that it cannot tell.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from ponderttt.evaluation.statistics import interval_by_source
from ponderttt.report.display import markdown

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
MARKS = {SUPPORTED: "✓", NOT_SUPPORTED: "✗", INCONCLUSIVE: "○"}


class Evidence(NamedTuple):
    """An effect with its interval (NaN bounds: none could be computed) from `n` documents."""

    effect: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Test:
    """How evidence decides: what is asked of it, and the verdict that it gives."""

    description: str
    decide: Callable[[Evidence], str]
    effect: str = "effects in nats per token"


def _interval_above_zero(evidence: Evidence) -> str:
    if evidence.low > 0:
        return SUPPORTED
    return NOT_SUPPORTED if evidence.high < 0 else INCONCLUSIVE


def _effect_not_negative(evidence: Evidence) -> str:
    return SUPPORTED if evidence.effect >= 0 else NOT_SUPPORTED


MARGIN = 0.001
"""Nats per token that are not worth telling apart."""


def _not_worse(evidence: Evidence) -> str:
    low, high = evidence.low + MARGIN, evidence.high + MARGIN
    return _interval_above_zero(Evidence(evidence.effect, low, high, evidence.n))


def _at_most_a_tenth(evidence: Evidence) -> str:
    return SUPPORTED if evidence.effect <= 0.1 else NOT_SUPPORTED


ABOVE_ZERO = Test("95 % interval is above zero", _interval_above_zero)
CORRELATED = Test(ABOVE_ZERO.description, ABOVE_ZERO.decide, "effects are rank correlations")
NOT_NEGATIVE = Test("smallest margin is not negative", _effect_not_negative)
NOT_WORSE = Test(f"95 % interval is above -{MARGIN:g}", _not_worse)
WITHIN_A_TENTH = Test(
    "largest relative difference is at most 0.1", _at_most_a_tenth, "effects are that difference"
)


@dataclass(frozen=True)
class Claim:
    """A sentence that `test` decides on `evidence` (in nats per token unless it says otherwise)."""

    sentence: str
    test: Test
    evidence: Evidence

    @property
    def verdict(self) -> str:
        """Supported, not supported, or inconclusive: what the test makes of the evidence."""
        return self.test.decide(self.evidence)


def to_markdown(claims: Iterable[Claim]) -> markdown.Markdown:
    """Claims under the test that decides them: verdict, sentence, effect with interval, n."""
    tests: dict[Test, list[Claim]] = {}
    for claim in claims:
        tests.setdefault(claim.test, []).append(claim)
    blocks = []
    for test, decided in tests.items():
        rows = [
            (
                f"{MARKS[claim.verdict]} *{claim.verdict}*",
                claim.sentence,
                signed_interval(*claim.evidence[:3]),
                str(claim.evidence.n),
            )
            for claim in decided
        ]
        blocks.append(f"Supported where the {test.description}; {test.effect}.")
        blocks.append(markdown.table(("verdict", "claim", "effect", "n"), rows, left=2))
    return markdown.join(*blocks)


def signed_interval(effect: float, low: float, high: float, *, digits: int = 4) -> str:
    """`+0.0412 [0.0350, 0.0470]`, or the effect alone where no interval could be computed."""
    # Adding zero turns the -0.0 that rounding leaves into 0.0.
    effect, low, high = (round(value, digits) + 0.0 for value in (effect, low, high))
    text = f"{effect:+.{digits}f}"
    return text if low != low or high != high else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def millinats(row: dict, *, below: bool = True) -> str:
    """The gain of `row` with its interval (`gain`, `low`, `high` in nats), in thousandths.

    The interval stands below the gain, so that a table of many columns fits on a page.
    """
    text = signed_interval(*(1e3 * row[key] for key in ("gain", "low", "high")), digits=1)
    return text.replace(" [", "<br>[") if below else text


def paired_gain(gain: pd.Series) -> Evidence:
    """Evidence from one paired difference a document, indexed by at least its `source`."""
    return Evidence(*interval_by_source(gain, gain.index.get_level_values("source")))
