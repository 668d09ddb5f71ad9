"""Exact and near-duplicate texts, by the lines they share."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import xxhash

MAX_SHARED = 0.5
"""Two texts are near-duplicates when the Jaccard index of their sets of lines reaches this."""

_MIN_LINE = 10
"""Lines that are shorter (`else:`, `return x`) say nothing about copying."""


def find_duplicates(texts: Sequence[str]) -> list[str]:
    """For each text, in order, why it repeats an earlier one that was kept; "" if it does not.

    Exact, not sketched: if two sets of lines have a Jaccard index of at least `MAX_SHARED`, they
    share one of each set's first `n - ceil(MAX_SHARED * n) + 1` lines in any order that is the
    same for all. With the rarest lines first, few pairs are ever compared (Chaudhuri et al. 2006,
    prefix filtering).
    """
    lines = [_line_hashes(text) for text in texts]
    frequency = Counter(line for found in lines for line in found)
    seen: set[int] = set()
    postings: defaultdict[int, list[int]] = defaultdict(list)
    reasons = []
    for index, (text, found) in enumerate(zip(texts, lines, strict=True)):
        whole = xxhash.xxh3_64_intdigest(text.encode())
        rarest = sorted(found, key=lambda line: (frequency[line], line))
        prefix = rarest[: len(found) - math.ceil(MAX_SHARED * len(found)) + 1]
        if whole in seen:
            reasons.append("copy")
            continue
        rivals = {rival for line in prefix for rival in postings[line]}
        if any(_jaccard(found, lines[rival]) >= MAX_SHARED for rival in rivals):
            reasons.append("near-duplicate")
            continue
        reasons.append("")
        seen.add(whole)
        for line in prefix:
            postings[line].append(index)
    return reasons


def _line_hashes(text: str) -> frozenset[int]:
    lines = {line.strip() for line in text.encode().split(b"\n")}
    return frozenset(xxhash.xxh3_64_intdigest(x) for x in lines if len(x) >= _MIN_LINE)


def _jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    if min(len(a), len(b)) < MAX_SHARED * max(len(a), len(b)):
        return 0.0
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
