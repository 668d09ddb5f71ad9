"""Exact and near-duplicate texts, by the lines they share."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import xxhash

MAX_CONTAINED = 0.5
"""A text that shares this part of its distinct lines with one other is a near-duplicate."""

_MIN_LINE = 10
"""Lines that are shorter (`else:`, `return x`) say nothing about copying."""


def find_duplicates(texts: Sequence[str]) -> list[str]:
    """For each text, in order, why it repeats another that is kept; "" if it does not.

    Exact, not sketched. Texts are taken from the largest to the smallest, so that a part of
    another gives way to the whole. A text of n lines that shares at least `MAX_CONTAINED * n` of
    them shares one of any `n - ceil(MAX_CONTAINED * n) + 1`; these are taken from its rarest
    lines, so that few pairs are ever compared (prefix filtering, Chaudhuri et al. 2006).
    """
    lines = [_line_hashes(text) for text in texts]
    frequency = Counter(line for found in lines for line in found)
    kept_with: defaultdict[int, list[int]] = defaultdict(list)
    whole: set[int] = set()
    reasons = [""] * len(texts)
    for index in sorted(range(len(texts)), key=lambda i: (-len(lines[i]), i)):
        found, digest = lines[index], xxhash.xxh3_64_intdigest(texts[index].encode())
        if digest in whole:
            reasons[index] = "copy"
        elif _is_contained(found, lines, frequency, kept_with):
            reasons[index] = "near-duplicate"
        else:
            whole.add(digest)
            for line in found:
                kept_with[line].append(index)
    return reasons


def _is_contained(found, lines, frequency: Counter[int], kept_with) -> bool:
    """Whether one of the texts in `kept_with` (line -> texts) holds enough of `found`."""
    needed = math.ceil(MAX_CONTAINED * len(found))
    rarest = sorted(found, key=frequency.__getitem__)
    rivals = {rival for line in rarest[: len(found) - needed + 1] for rival in kept_with[line]}
    return any(len(found & lines[rival]) >= needed for rival in rivals)


def _line_hashes(text: str) -> frozenset[int]:
    lines = {line.strip() for line in text.encode().split(b"\n")}
    return frozenset(xxhash.xxh3_64_intdigest(x) for x in lines if len(x) >= _MIN_LINE)
