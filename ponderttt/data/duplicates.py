"""Exact and near-duplicate texts, by the lines they share."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain

MAX_CONTAINED = 0.5
"""A text that shares this part of its distinct lines with one other is a near-duplicate."""

_MIN_LINE = 10
"""Lines that are shorter (`else:`, `return x`) say nothing about copying."""


def find_duplicates(texts: Sequence[str]) -> list[str]:
    """For each text, in order, why it repeats another that is kept; "" if it does not.

    Exact, not sketched. Texts are taken from the largest to the smallest, so that a part of
    another gives way to the whole.
    """
    lines = [_distinct_lines(text) for text in texts]
    frequency = Counter(chain.from_iterable(lines))
    kept_with: defaultdict[str, list[int]] = defaultdict(list)
    kept: set[str] = set()
    reasons = [""] * len(texts)
    for index in sorted(range(len(texts)), key=lambda i: (-len(lines[i]), i)):
        # A line that no other text holds cannot be shared: most are of that kind.
        shareable = [line for line in lines[index] if frequency[line] > 1]
        needed = math.ceil(MAX_CONTAINED * len(lines[index]))
        if texts[index] in kept:
            reasons[index] = "copy"
        elif any(
            len(lines[index] & lines[rival]) >= needed
            for rival in _rivals(shareable, needed, frequency, kept_with)
        ):
            reasons[index] = "near-duplicate"
        else:
            kept.add(texts[index])
            for line in shareable:
                kept_with[line].append(index)
    return reasons


def _rivals(
    shareable: list[str], needed: int, frequency: Counter[str], kept_with: dict[str, list[int]]
) -> set[int]:
    """The texts that may share `needed` of the lines.

    Whoever shares that many shares one of any `len(shareable) - needed + 1` of them; the rarest
    leave the fewest to compare (prefix filtering, Chaudhuri et al. 2006).
    """
    rarest = sorted(shareable, key=frequency.__getitem__)
    return {
        rival
        for line in rarest[: max(0, len(rarest) - needed + 1)]
        for rival in kept_with.get(line, ())
    }


def _distinct_lines(text: str) -> frozenset[str]:
    stripped = map(str.strip, text.split("\n"))
    return frozenset(line for line in stripped if len(line) >= _MIN_LINE)
