"""Losses that are not numbers end a run, with the place where they began.

A step too large for its text gives infinity, then NaN for whatever is read or trained after it: a
mean over such losses would be printed as a result. What was computed before is kept by whoever
computes: in the cache, in a checkpoint, in results.json.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ponderttt.errors import InputError

LARGEST = 1e6
"""Nats a token: logits so far apart are stored in steps of a sixteenth, and no loss is so large."""


class NotFinite(InputError):
    """Losses are no numbers, or absurd ones, from `place` on: indices, one an axis."""

    def __init__(self, said: str, place: tuple[int, ...]):
        super().__init__(said)
        self.place = place


def check_finite(
    losses: Any,
    axes: Sequence[str],
    *,
    of: str = "the loss",
    names: Mapping[str, Sequence[Any]] | None = None,
    remedy: str = "take a smaller rate or fewer steps",
) -> None:
    """A `NotFinite` that says where, on `axes`, `losses` cease to be finite; else nothing.

    What is larger than `LARGEST` is no loss either: it comes just before infinity.

    `names` has what the places of an axis are called, where that is not their number.

    >>> check_finite([[1.0, 2.0], [3.0, float("nan")]], ("document", "unit"))
    Traceback (most recent call last):
    ...
    ponderttt.training.finite.NotFinite: the loss is nan from document 2, unit 2 on: expected \
finite losses; take a smaller rate or fewer steps
    """
    values = np.asarray(losses)
    bad = ~(np.abs(values) <= LARGEST)  # also of NaN
    if not bad.any():
        return
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    called = names or {}
    where = ", ".join(
        f"{axis} {called[axis][i] if axis in called else i + 1}"
        for axis, i in zip(axes, place, strict=True)
    )
    raise NotFinite(
        f"{of} is {values[place]:.3g} from {where} on: expected finite losses; {remedy}", place
    )
