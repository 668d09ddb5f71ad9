"""Every field of every configuration is fed what it cannot use: one line before any compute."""

import dataclasses
import doctest
import importlib
import pkgutil
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import jax
import numpy as np
import pytest

import ponderttt
from ponderttt.checks import Bounds, Count, Seed, check
from ponderttt.errors import InputError

OTHERS = {"PolicyTrainer"}
"""Configurations by another name."""
SIZES = dict(
    vocab_size=64, width=16, layers=1, heads=2, kv_heads=2, head_dim=8, hidden=16, max_positions=32
)
REQUIRED = {
    "DecoderConfig": SIZES
    | dict(family="llama", norm="rms", norm_eps=1e-5, activation="swiglu",
           qkv_bias=False, attention_out_bias=False, mlp_bias=False, positions="rotary"),
    "TTTConfig": {"hidden_dim": 64},
    "ReferenceTTTConfig": {"hidden_dim": 64},
}  # fmt: skip
"""Arguments of those without defaults; a configuration within another is made of its defaults."""
ACCEPTED = {
    ("TrainerConfig", "rate_scale", "negative"): "climbs the inner loss: the sign-flip control",
    ("TrainerConfig", "mixture", "duplicate"): "probabilities of actions, told apart by position",
}
"""What a field takes although it looks wrong, and why."""


def _configurations() -> dict[str, type]:
    found = {}
    for module in pkgutil.walk_packages(ponderttt.__path__, "ponderttt."):
        if "__main__" in module.name or ".bench.peers" in module.name:
            continue  # runs; and what runs in the peer's interpreter alone
        for name, kind in vars(importlib.import_module(module.name)).items():
            if not (dataclasses.is_dataclass(kind) and isinstance(kind, type)):
                continue
            if name.endswith("Config") or name in OTHERS:
                found[kind.__name__] = kind
    return found


CONFIGURATIONS = _configurations()


def _arguments(kind: type) -> dict:
    given = dict(REQUIRED.get(kind.__name__, {}))
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        missing = field.default is dataclasses.MISSING
        if missing and field.default_factory is dataclasses.MISSING and field.name not in given:
            given[field.name] = hints[field.name](**_arguments(hints[field.name]))
    return given


def _optional(kind) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _plain(kind):
    """The annotation without bounds and rules, and without None."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if _optional(kind):
        return _plain(next(option for option in get_args(kind) if option is not NoneType))
    return kind


def _wrong(kind, usual) -> dict:
    """Values that a field of this type cannot use, by what is wrong with them."""
    kind = _plain(kind)
    nothing = {"nothing": None, "object": object()}
    if get_origin(kind) is tuple:
        bad = {f"one {name}": [*usual[:-1], value] for name, value in
               _wrong(get_args(kind)[0], usual[0]).items()}  # fmt: skip
        duplicate = [*usual[:-1], usual[0]] if len(usual) > 1 else [*usual, *usual]
        return nothing | {"empty": [], "scalar": usual[0], "duplicate": duplicate} | bad
    if get_origin(kind) is Literal:
        return nothing | {"unknown": "nonsense", "number": 7, "list": ["nonsense"]}
    number = {"text": "32", "bool": True, "negative": -1, "NaN": float("nan"), "list": [4]}
    number |= {"infinite": float("inf"), "array\nof two": _Lines()}
    values = {
        int: number | {"fraction": 2.5, "whole fraction": 2.0},
        float: number,
        str: {"number": 7, "empty": "", "list": ["x"]},
        bool: {"number": 1, "text": "yes", "list": [True]},
        Path: {"number": 7, "list": ["x"]},
    }
    return nothing | values.get(kind, {"text": "x", "number": 7, "dictionary": {}})


class _Lines:
    """Something whose representation has several lines, as arrays have."""

    def __repr__(self):
        return "two\nlines"


FIELDS = [
    pytest.param(kind, field.name, id=f"{name}-{field.name}")
    for name, kind in CONFIGURATIONS.items()
    for field in dataclasses.fields(kind)
]


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    from ponderttt.data import sources
    from ponderttt.models.decoder import lm, weights

    def refuse(*_, **__):
        raise AssertionError("a configuration reads nothing")

    for module, name in (
        (weights, "load_weights"), (lm, "load_weights"), (sources, "open_source"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, refuse)


def test_the_configurations_are_found():
    assert len(CONFIGURATIONS) >= 21
    assert {"GatingConfig", "SuiteConfig", "PPOConfig", "TTTConfig"} <= CONFIGURATIONS.keys()
    assert all(kind.__dataclass_params__.frozen for kind in CONFIGURATIONS.values())


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_what_cannot_be_used_is_one_line_before_any_compute(kind, name):
    given, hint = _arguments(kind), get_type_hints(kind, include_extras=True)[name]
    for label, value in _wrong(hint, getattr(kind(**given), name)).items():
        if value is None and _optional(hint):
            continue
        if (kind.__name__, name, label) in ACCEPTED:
            kind(**given | {name: value})
            continue
        with pytest.raises(InputError) as error:
            kind(**given | {name: value})
            pytest.fail(f"{name} took {value!r} ({label})")
        said = str(error.value)
        assert "\n" not in said and "expected" in said and name.removesuffix("s") in said


def test_what_can_be_used_becomes_what_the_type_says():
    @dataclasses.dataclass(frozen=True)
    class Kinds:
        seeds: tuple[Seed, ...] = (0,)
        rate: float = 1.0
        units: Count = 1
        folder: Path | None = None

        def __post_init__(self):
            check(self)

    made = Kinds(seeds=[np.int64(3), 2**32 - 1], rate=2, units=np.int32(4), folder="here")
    assert made == Kinds((3, 2**32 - 1), 2.0, 4, Path("here")) and made.folder == Path("here")
    assert [type(x) for x in (*made.seeds, made.rate, made.units)] == [int, int, float, int]
    assert repr(made) == repr(Kinds((3, 2**32 - 1), 2.0, 4, Path("here")))
    with pytest.raises(InputError, match=r"seeds is 3: expected a list, such as \[3\]"):
        Kinds(seeds=3)
    with pytest.raises(InputError, match="seeds holds -1: expected whole numbers of 0 to 42949672"):
        Kinds(seeds=[-1])


def test_a_type_that_nothing_is_known_about_is_an_error_of_the_code():
    @dataclasses.dataclass(frozen=True)
    class Unknown:
        field: dict[str, int] | int = 0

        def __post_init__(self):
            check(self)

    with pytest.raises(TypeError, match="no type of a configuration"):
        Unknown()


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (Bounds(1), "1 or more"),
        (Bounds(0, 1), "0 to 1"),
        (Bounds(above=0), "more than 0"),
        (Bounds(0, below=1), "0 or more and less than 1"),
        (Bounds(most=3), "3 or less"),
        (Bounds(), ""),
    ],
)
def test_bounds_say_what_they_hold(bounds, said):
    assert str(bounds) == said
    for name in ("least", "most", "above", "below"):
        edge = getattr(bounds, name)
        if np.isfinite(edge):
            assert bounds.hold(edge) == (name in ("least", "most"))


def test_the_example_holds():
    from ponderttt import checks

    assert doctest.testmod(checks).failed == 0 < doctest.testmod(checks).attempted


def test_no_configuration_looks_at_the_machine(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("`--device` has not been applied yet")

    for name in ("default_backend", "devices", "local_devices", "device_count"):
        monkeypatch.setattr(jax, name, refuse)
    for kind in CONFIGURATIONS.values():
        kind(**_arguments(kind))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1e1", "units is '1e1': expected a whole number of 1 or more; write 10"),
        (10.0, "units is 10.0: expected a whole number of 1 or more; write 10"),
        ("x", "units is 'x': expected a whole number of 1 or more"),
        (1.5, "units is 1.5: expected a whole number of 1 or more"),
        (2**31, "units is 2147483648: expected 1 to 2147483647"),
        (10**400, "expected 1 to 2147483647"),
        ([[[[[[[[[1]]]]]]]]], "units is [[[[[[[...]]]]]]]: expected a whole number"),
    ],
)
def test_a_number_of_another_type_is_told_how_to_be_written(value, said):
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        units: Count = 1

        def __post_init__(self):
            check(self)

    with pytest.raises(InputError) as error:
        Sizes(value)
    assert said in str(error.value) and len(str(error.value)) < 200


def test_a_path_is_one_a_user_may_write(monkeypatch, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Places:
        folder: Path | None = None

        def __post_init__(self):
            check(self)

    monkeypatch.setenv("HOME", str(tmp_path))
    assert Places("~/x").folder == tmp_path / "x"
    for text, said in (("", "folder is empty"), ("a\0b", "folder is .* cannot be a path")):
        with pytest.raises(InputError, match=said):
            Places(text)
