"""What a configuration may hold, said by its fields' types and checked before any compute.

`check(self)` in a frozen dataclass's `__post_init__` holds every value against its annotation:
whole numbers are whole, numbers finite, choices known, lists not empty and without duplicates.
Bounds, and rules that raise an `InputError` for a value, stand in the annotation.

>>> @dataclass(frozen=True)
... class Reading:
...     units: Annotated[int, Bounds(2, 6)] = 4
...     seeds: tuple[Seed, ...] = (0,)
...
...     def __post_init__(self):
...         check(self)
>>> Reading(seeds=[1, 2]).seeds
(1, 2)
>>> Reading(units=2.5)
Traceback (most recent call last):
...
ponderttt.errors.InputError: units is 2.5: expected a whole number of 2 to 6
"""

import math
import reprlib
import sys
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ponderttt.errors import InputError
from ponderttt.storage import as_path

LARGEST = 2**31 - 1
"""Of whole numbers whose bounds say no other: what JAX and the system count with."""


@dataclass(frozen=True)
class Bounds:
    """Of a number, or of each number of a list: `least` and `most` belong to it, the others not.

    `why` says what the bounds come from.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    why: str = ""

    def hold(self, value: float) -> bool:
        """Whether `value` is within them."""
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{self.least:.10g} to {self.most:.10g}"
        said = {
            "{:.10g} or more": self.least, "more than {:.10g}": self.above,
            "{:.10g} or less": self.most, "less than {:.10g}": self.below,
        }  # fmt: skip
        return " and ".join(text.format(x) for text, x in said.items() if math.isfinite(x))


Count = Annotated[int, Bounds(1)]
Natural = Annotated[int, Bounds(0)]
Seed = Annotated[int, Bounds(0, 2**32 - 1)]
"""Of what `jax.random.key` keeps, 32 bits: a larger seed would draw what a smaller one draws."""
Positive = Annotated[float, Bounds(above=0)]
NonNegative = Annotated[float, Bounds(0)]
Share = Annotated[float, Bounds(0, 1)]
REPEATS = "values may repeat"
"""In the annotation of a list whose values say something by their position."""


def shown(value: Any, most: int = 80) -> str:
    """`value` as a message shows it: one line, and a short one however deep it is nested."""
    short = reprlib.Repr()
    short.maxother = short.maxstring = short.maxlong = most
    said = " ".join(short.repr(value).split())
    return said if len(said) <= most else said[: most - 1] + "…"


def said(error: object, most: int = 160) -> str:
    """What an error says, as a message takes it up: one line, and not a long one."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= most else words[: most - 1] + "…"


def check(config: Any) -> None:
    """Every field holds what its type says, or an `InputError` says which does not.

    Lists become tuples, integers and NumPy's numbers those that the type names, and text the path
    where one is asked for. An annotation that nothing is known about is a `TypeError`.
    """
    kinds = get_type_hints(type(config), include_extras=True)
    for field in fields(config):
        value = _fit(getattr(config, field.name), kinds[field.name], _Place(field.name))
        object.__setattr__(config, field.name, value)


class _Place(NamedTuple):
    """Where a value stands: in a field, or (`many`) in the list that a field holds."""

    name: str
    many: bool = False

    def error(self, value: Any, expected: str) -> InputError:
        verb = "holds" if self.many else "is"
        return InputError(f"{self.name} {verb} {shown(value)}: {expected}")


def _fit(value: Any, kind: Any, place: _Place) -> Any:
    """`value` as the annotation `kind` has it."""
    rules: tuple = ()
    if get_origin(kind) is Annotated:
        kind, *rules = get_args(kind)  # type: ignore[assignment]
    if get_origin(kind) in (Union, UnionType):
        if get_args(kind)[1:] != (NoneType,):
            raise TypeError(f"{place.name}: {kind} is no type of a configuration's field")
        return None if value is None else _fit(value, get_args(kind)[0], place)
    if get_origin(kind) is tuple:
        value = _fit_list(value, get_args(kind)[0], place, repeats=REPEATS in rules)
    elif get_origin(kind) is Literal:
        _check_choice(value, get_args(kind), place)
    elif kind in (int, float):
        bounds = next((rule for rule in rules if isinstance(rule, Bounds)), Bounds())
        value = _fit_number(value, kind, bounds, place)
    else:
        value = _fit_other(value, kind, place)
    for rule in rules:
        if callable(rule):
            rule(value)
    return value


def _fit_list(value: Any, kind: Any, place: _Place, *, repeats: bool) -> tuple:
    if not isinstance(value, list | tuple):
        raise place.error(value, f"expected a list, such as [{shown(value).strip(chr(39))}]")
    if not value:
        raise InputError(f"{place.name} is empty: expected a list of one or more")
    values = tuple(_fit(each, kind, _Place(place.name, many=True)) for each in value)
    for i, each in enumerate(values):
        if each in values[:i] and not repeats:
            raise InputError(f"{place.name} holds {shown(each)} twice: expected each once")
    return values


def _fit_number(value: Any, kind: type, bounds: Bounds, place: _Place) -> float:
    real = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    real = real and (kind is int or abs(value) <= sys.float_info.max)
    most = bounds.most if math.isfinite(bounds.most) else LARGEST
    if real and bounds.hold(value) and (kind is float or value <= most):
        return kind(value)
    if real and kind is int and value > most:
        bounds = replace(bounds, most=most)
    number = "whole number" if kind is int else "number"
    number = f"{number}s" if place.many else f"a {number}"
    within = f"{number} of {bounds}" if str(bounds) else number
    if not real:
        raise place.error(value, f"expected {within}{_remedy(value, kind)}")
    expected = within if place.many else str(bounds)
    raise place.error(value, f"{bounds.why}, expected {expected}"[0 if bounds.why else 2 :])


def _remedy(value: Any, kind: type) -> str:
    """How to write what was meant, where that can be told: 1e1 is text to YAML, 10.0 no integer."""
    try:
        meant = float(value) if isinstance(value, str | Real) else math.nan
    except (ValueError, OverflowError):
        return ""
    if isinstance(value, bool) or not math.isfinite(meant) or (kind is int and meant % 1):
        return ""
    return f"; write {int(meant) if kind is int and abs(meant) <= LARGEST else meant!r}"


def _check_choice(value: Any, options: tuple, place: _Place) -> None:
    if not any(type(value) is type(option) and value == option for option in options):
        known = " or ".join(filter(None, [", ".join(map(str, options[:-1])), str(options[-1])]))
        if place.many:
            raise place.error(value, f"expected some of {', '.join(map(str, options))}")
        raise InputError(f"unknown {place.name} {shown(value)}: expected {known}")


def _fit_other(value: Any, kind: Any, place: _Place) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return as_path(value, place.name)
    if not isinstance(kind, type):
        raise TypeError(f"{place.name}: {kind} is no type of a configuration's field")
    if value == "":
        raise InputError(f"{place.name} is empty: expected a name; was a variable not set?")
    if not isinstance(value, kind):
        words = {str: "a name", bool: "True or False", Path: "a path"}
        raise place.error(value, f"expected {words.get(kind, f'a {kind.__name__}')}")
    return value
