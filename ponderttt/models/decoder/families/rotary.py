"""What a config.json says of rotary positions: their base, and how much of a head they turn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from ponderttt.checks import Bounds, Positive, check
from ponderttt.errors import InputError
from ponderttt.models.decoder.families.config_file import read_keys
from ponderttt.models.decoder.families.family import require


class Rotary(NamedTuple):
    """Rotary positions as a decoder has them."""

    base: float = 10_000.0
    fraction: float = 1.0

    def __str__(self) -> str:
        return f"base {self.base:g}, {self.fraction:g} of a head"


@dataclass(frozen=True)
class RotaryKeys:
    """What `rope_parameters` or, in older files, `rope_scaling` say beside their type."""

    rope_theta: Positive = 10_000.0
    partial_rotary_factor: Annotated[float, Bounds(most=1, above=0)] = 1.0

    def __post_init__(self):
        check(self)


def read_rotary(
    beside: Mapping[str, float | None],
    places: Mapping[str, dict | None],
    *,
    default: Rotary | None = None,
    partial: bool = False,
) -> Rotary:
    """The rotary positions, wherever they stand: at the top level or in one of `places`.

    `beside` is what the top level states, by the names of `Rotary`'s fields, None where nothing.
    What is said nowhere is `default`'s, and only where `partial` a head may be turned in part. An
    `InputError` for a type that is not computed, and for places that disagree, of which
    transformers follows one without a word.
    """
    top = {name: value for name, value in beside.items() if value is not None}
    known = (default or Rotary())._replace(**top)
    stated: dict[str, Rotary] = {}
    for name, inside in places.items():
        if inside:
            try:
                stated[name] = _read(known, inside, partial)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
    found = next(iter(stated.values()), known)
    if top:
        stated["the top level"] = found._replace(**top)
    require(
        len(set(stated.values())) < 2,
        "the rotary positions stand in two places that disagree ("
        + "; ".join(f"{place}: {said}" for place, said in stated.items())
        + "): expected one; remove the other",
    )
    return found


def _read(known: Rotary, said: dict, partial: bool) -> Rotary:
    """What `said` adds to what is `known`."""
    types = {"rope_type", "type"} & set(said)
    for name in sorted(types):
        require(
            said[name] == "default",
            f"rope_type {said[name]!r} is not supported: expected 'default'; use a model whose "
            "positions are not scaled",
        )
    keys = read_keys(
        RotaryKeys, {"rope_theta": known.base, "partial_rotary_factor": known.fraction} | said,
        only={"factor": (1.0, 1)}, harmless=frozenset({*types, "original_max_position_embeddings"}),
    )  # fmt: skip
    require(
        partial or keys.partial_rotary_factor == 1,
        f"partial_rotary_factor is {keys.partial_rotary_factor:g}: this family turns whole heads, "
        "expected 1",
    )
    return Rotary(keys.rope_theta, keys.partial_rotary_factor)
