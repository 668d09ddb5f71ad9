"""What the experiments that have a command of their own share."""

import sys
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import tyro

from ponderttt.errors import InputError

C = TypeVar("C")
Device = Literal["cpu", "cuda"]


def use_device(device: Device | None) -> None:
    """Compute on `device` from now on; one that is not there is an `InputError`."""
    import jax

    if device:
        try:
            jax.config.update("jax_default_device", jax.devices(device)[0])
        except RuntimeError as error:
            raise InputError(
                f"no {device} device: install the extra cuda12, or use --device cpu"
            ) from error


def run_module(config: type[C], run: Callable[[C], Any], description: str | None) -> None:
    """Parse `config` from the command line and run; bad input is one line and exit code 2."""
    try:
        run(tyro.cli(config, description=description, config=(tyro.conf.OmitArgPrefixes,)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
