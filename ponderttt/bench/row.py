"""One measured figure beside what it is measured against."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import linregress


@dataclass(frozen=True)
class Options:
    """`peer_python`: an interpreter that has torch and transformers."""

    peer_python: str | None = None


@dataclass(frozen=True)
class Row:
    """`value` in `unit`; `ratio` is ours over the peer's, higher is better.

    `ok`: the ratio reaches `bar`. Without a peer there is no ratio, and `reason` says why.
    """

    name: str
    value: float
    unit: str
    peer: str
    ratio: float | None
    bar: float
    ok: bool
    reason: str = ""


def lower_is_better(
    name: str, value: float, peer: str, peer_value: float, bar: float, unit: str = "s"
) -> Row:
    """A row for a cost (seconds, bytes): the ratio is the peer's cost over ours."""
    ratio = float(peer_value / value)
    return Row(name, float(value), unit, f"{peer}: {peer_value:.4g}", ratio, bar, ratio >= bar)


def higher_is_better(
    name: str, value: float, peer: str, peer_value: float, bar: float, unit: str
) -> Row:
    """A row for a rate: the ratio is our rate over the peer's."""
    ratio = float(value / peer_value)
    return Row(name, float(value), unit, f"{peer}: {peer_value:.4g}", ratio, bar, ratio >= bar)


def straight_line(name: str, steps: Sequence[int], times: Sequence[float]) -> Row:
    """How well seconds are linear in the steps taken: R^2, at least 0.98."""
    r_squared = linregress(steps, times).rvalue ** 2
    return higher_is_better(name, r_squared, "a straight line", 1.0, 0.98, "R^2")


def without_peer(
    name: str, value: float, peer: str, bar: float, reason: str, unit: str = "s"
) -> Row:
    """A row whose peer is missing: not met, for the stated reason."""
    return Row(name, value, unit, peer, None, bar, False, reason)
