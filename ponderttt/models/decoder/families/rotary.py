"""What a config.json says of rotary positions: base, share of a head, scaling."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from ponderttt.checks import Bounds, Count, Positive, check, shown
from ponderttt.errors import InputError
from ponderttt.models.decoder.config import RotaryScaling
from ponderttt.models.decoder.families.config_file import read_keys
from ponderttt.models.decoder.families.family import require


class Rotary(NamedTuple):
    """Rotary positions as a decoder has them."""

    base: float = 10_000.0
    fraction: float = 1.0
    scaling: RotaryScaling | None = None

    def __str__(self) -> str:
        scaled = "not scaled" if self.scaling is None else str(self.scaling)
        return f"base {self.base:g}, {self.fraction:g} of a head, {scaled}"


@dataclass(frozen=True)
class RotaryKeys:
    """What `rope_parameters` or, in older files, `rope_scaling` say beside their type."""

    rope_theta: Positive = 10_000.0
    partial_rotary_factor: Annotated[float, Bounds(most=1, above=0)] = 1.0

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class ScaledKeys(RotaryKeys):
    """What they say where their type is llama3."""

    factor: Annotated[float, Bounds(1)] | None = None
    low_freq_factor: Positive | None = None
    high_freq_factor: Positive | None = None
    original_max_position_embeddings: Count | None = None


def read_rotary(
    beside: Mapping[str, float | None],
    places: Mapping[str, dict | None],
    *,
    positions: int,
    default: Rotary | None = None,
    partial: bool = False,
) -> Rotary:
    """The rotary positions, wherever they stand: at the top level or in one of `places`.

    `beside` is what the top level states, by the names of `Rotary`'s fields, None where nothing.
    What is said nowhere is `default`'s, and only where `partial` a head may be turned in part.
    Scaling is from the model's `positions` where it does not say from how many. An `InputError` for
    a type that is not computed, and for places that disagree, of which transformers follows one
    without a word.
    """
    top: dict[str, Any] = {name: value for name, value in beside.items() if value is not None}
    known = (default or Rotary())._replace(**top)
    stated: dict[str, Rotary] = {}
    for name, inside in places.items():
        if inside:
            try:
                stated[name] = _read(known, inside, positions, partial)
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


def _read(known: Rotary, said: dict, positions: int, partial: bool) -> Rotary:
    """What `said` adds to what is `known`."""
    kinds = {name: said[name] for name in ("rope_type", "type") if name in said}
    for kind in kinds.values():
        require(
            kind in ("default", "llama3"),
            f"rope_type {shown(kind)} is not supported: expected 'default' or 'llama3'; use a "
            "model whose positions are scaled so, or not at all",
        )
    require(len(set(kinds.values())) < 2, f"rope_type and type disagree ({kinds}): expected one")
    values = {"rope_theta": known.base, "partial_rotary_factor": known.fraction} | said
    keys: RotaryKeys
    if "llama3" in kinds.values():
        keys = read_keys(ScaledKeys, values, harmless=frozenset(kinds))
        scaling = _scaling(keys, positions)
    else:
        unscaled = frozenset({*kinds, "original_max_position_embeddings"})
        keys = read_keys(RotaryKeys, values, only={"factor": (1.0, 1)}, harmless=unscaled)
        scaling = None
    require(
        partial or keys.partial_rotary_factor == 1,
        f"partial_rotary_factor is {keys.partial_rotary_factor:g}: this family turns whole heads, "
        "expected 1",
    )
    return Rotary(keys.rope_theta, keys.partial_rotary_factor, scaling)


def _scaling(keys: ScaledKeys, positions: int) -> RotaryScaling:
    factors = {name: getattr(keys, name) for name in
               ("factor", "low_freq_factor", "high_freq_factor")}  # fmt: skip
    for name, value in factors.items():
        require(value is not None, f"{name} is absent: expected a number, as rope_type is 'llama3'")
    return RotaryScaling(
        **factors, original_positions=keys.original_max_position_embeddings or positions
    )
