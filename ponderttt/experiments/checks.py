"""Checks that the configurations of several experiments share: before any compute."""

from dataclasses import fields
from typing import Any

from ponderttt.data.sources import find_source
from ponderttt.models.lm import check_dtype
from ponderttt.models.pretrained import check_model
from ponderttt.types import InputError


def check_choices(config: Any, *names: str) -> None:
    """The fields `names` become tuples (papermill and YAML hand lists in); none may be empty."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, list | tuple):
            raise InputError(f"{name} is {value!r}: expected a list, such as [{value}]")
        if not value:
            raise InputError(f"{name} is empty: expected a list of one or more")
        object.__setattr__(config, name, tuple(value))


def check_common(config: Any) -> None:
    """Sources, model and dtype exist, and whole numbers are whole."""
    check_choices(config, "sources")
    check_model_and_numbers(config)
    for source in config.sources:
        find_source(source)


def check_model_and_numbers(config: Any) -> None:
    """Model and dtype exist, and whole numbers are whole."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type is int and (isinstance(value, bool) or not isinstance(value, int)):
            raise InputError(f"{field.name} is {value!r}: expected a whole number")
    check_model(config.model)
    check_dtype(config.dtype)


def check_numbers(config: Any, least: dict[str, int]) -> None:
    """No field of `least` is under its bound."""
    for name, low in least.items():
        if getattr(config, name) < low:
            raise InputError(f"{name} is {getattr(config, name)}: expected {low} or more")
