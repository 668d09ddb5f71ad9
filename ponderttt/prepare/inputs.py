"""What every configuration names: sources, a model, a dtype; checked before any compute."""

from dataclasses import fields
from typing import Any

from ponderttt.checks import check_choices
from ponderttt.data.sources import find_source
from ponderttt.errors import InputError
from ponderttt.models.decoder.precision import check_dtype
from ponderttt.models.decoder.weights import check_model


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
