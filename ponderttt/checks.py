"""Checks that the configurations of several experiments share: before any compute."""

from typing import Any

from ponderttt.errors import InputError


def check_choices(config: Any, *names: str) -> None:
    """The fields `names` become tuples (papermill and YAML hand lists in); none may be empty."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, list | tuple):
            raise InputError(f"{name} is {value!r}: expected a list, such as [{value}]")
        if not value:
            raise InputError(f"{name} is empty: expected a list of one or more")
        object.__setattr__(config, name, tuple(value))


def check_numbers(config: Any, least: dict[str, int]) -> None:
    """No field of `least` is under its bound."""
    for name, low in least.items():
        if getattr(config, name) < low:
            raise InputError(f"{name} is {getattr(config, name)}: expected {low} or more")
