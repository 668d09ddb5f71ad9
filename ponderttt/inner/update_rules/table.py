"""The update rules by name, and what each of them takes."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.checks import Bounds, shown
from ponderttt.errors import InputError
from ponderttt.inner.update_rules.adamw import AdamW
from ponderttt.inner.update_rules.newton_schulz import NewtonSchulz
from ponderttt.inner.update_rules.normalized import NormalizedGradient
from ponderttt.inner.update_rules.protocol import Rate, UpdateRule
from ponderttt.inner.update_rules.rms import OnlineRMS, SumOfSquares
from ponderttt.inner.update_rules.sgd import SGD

POSITIVE, NOT_NEGATIVE, SHARE = Bounds(above=0), Bounds(0), Bounds(0, below=1)


class Family(NamedTuple):
    """How a rule is made, the bounds of its numbers, and whether statistics come before it."""

    make: Callable[..., UpdateRule]
    numbers: dict[str, Bounds]
    statistics: bool = False
    static: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """What it takes beside a rate."""
        return [*self.numbers, *self.static, *["statistics"][: self.statistics]]


_SUM = {"eps": POSITIVE, "pull": NOT_NEGATIVE}
RULES: dict[str, Family] = {
    "sgd": Family(SGD, {"clip": POSITIVE, "decay": NOT_NEGATIVE}),
    "normalized": Family(NormalizedGradient, {"eps": POSITIVE}),
    "rms": Family(OnlineRMS, {"decay": SHARE, "eps": POSITIVE, "pull": NOT_NEGATIVE}),
    "rms_sum": Family(SumOfSquares, _SUM, True),
    "rms_sum_sqrt": Family(partial(SumOfSquares, root=True, eps=1e-5), _SUM, True),
    "adamw": Family(AdamW, {"beta2": SHARE, "eps": POSITIVE, "weight_decay": NOT_NEGATIVE}),
    "newton_schulz": Family(NewtonSchulz, {}, static=("iterations",)),
}
"""Rules by name; `rms_sum` and `rms_sum_sqrt` need the statistics that `Gather` leaves."""


def make_rule(name: str, rate: Rate, **options: Any) -> UpdateRule:
    """The rule of that name, its numbers as float32 leaves; None leaves an option at its default.

    >>> make_rule("adamw", 1e-4, weight_decay=0.0).beta2
    0.99
    >>> make_rule("sgd", -1.0)
    Traceback (most recent call last):
    ...
    ponderttt.errors.InputError: rate is -1.0: expected a finite number, more than 0
    """
    if name not in RULES:
        raise InputError(f"unknown rule {shown(name)}: expected one of {', '.join(RULES)}")
    family = RULES[name]
    unknown = sorted(set(options) - set(family.options))
    if unknown:
        known = ", ".join(family.options) or "none"
        raise InputError(f"rule {name!r} takes no option {unknown[0]!r}: expected {known}")
    given = {key: value for key, value in options.items() if value is not None}
    if family.statistics and "statistics" not in given:
        raise InputError(f"rule {name!r} needs statistics: gather them with rule=Gather()")
    for key in set(given) & set(family.numbers):
        given[key] = _number(key, given[key], family.numbers[key])
    count = given.get("iterations", 1)
    if type(count) is not int or count < 1:
        raise InputError(f"iterations is {shown(count)}: expected a whole number of 1 or more")
    return family.make(_number("rate", rate, POSITIVE), **given)


def _number(name: str, value: Any, bounds: Bounds) -> jax.Array:
    with np.errstate(over="ignore"):
        known = np.asarray(value)
        known = known.astype(np.float32) if known.dtype.kind in "fiu" else np.asarray(np.nan)
    if not all(np.isfinite(x) and bounds.hold(x) for x in known.ravel().tolist()):
        raise InputError(f"{name} is {shown(value)}: expected a finite number, {bounds}")
    return jnp.asarray(known)
