"""From the tensors of a checkpoint to a decoder's parameters, by a family's table of rules."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ponderttt.errors import InputError
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.parameters import param_shapes


class Weights(NamedTuple):
    """A configuration, its parameters, the tokenizer they were trained with, and their origin.

    `digest` identifies the parameters: the SHA-256 of the files, or how they were drawn.
    """

    config: DecoderConfig
    params: Mapping[str, np.ndarray | jax.Array]
    tokenizer_name: str
    digest: str


class Rule(NamedTuple):
    """Tensors whose name matches `pattern` become the parameter `target`.

    A group in the pattern is the block's number. `columns` names the part of the last axis that
    the tensor fills, where several share one parameter. No target: the tensor is not needed.
    """

    pattern: str
    target: str = ""
    columns: str = ""
    transform: Callable[[DecoderConfig, np.ndarray], np.ndarray] = lambda config, array: array


def transposed(config: DecoderConfig, array: np.ndarray) -> np.ndarray:
    """A weight stored [out, in]."""
    return array.T


def read_safetensors(files: Iterable[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and float32 values of all tensors; a damaged file is an `InputError`."""
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="flax") as tensors:  # numpy alone has no bfloat16
                for name in tensors.keys():
                    yield name, np.asarray(tensors.get_tensor(name), np.float32)
        except SafetensorError as error:
            raise InputError(
                f"{file} is damaged or cut short ({error}); fetch or write it again"
            ) from error


def assemble(
    config: DecoderConfig,
    tensors: Iterable[tuple[str, np.ndarray]],
    rules: list[Rule],
    origin: str,
) -> dict[str, np.ndarray]:
    """Float32 parameters from named tensors; what does not fit `config` is an `InputError`."""
    params = {name: np.empty(shape, np.float32) for name, shape in param_shapes(config).items()}
    missing = {name: array.size for name, array in params.items()}
    for name, tensor in tensors:
        rule, match = _find(
            rules,
            name,
            f"{origin}: tensor {name} is of no known kind; expected "
            f"the checkpoint of a {config.family} language model",
        )
        if rule.target not in params:
            continue  # not needed, or an output matrix that is tied to the embedding
        place = params[rule.target][..., column_slice(config, rule.columns)]
        layer = int(match.group(1)) if match.groups() else None
        array = rule.transform(config, tensor)
        shape = place.shape if layer is None else place.shape[1:]
        if array.shape != shape or (layer or 0) >= config.layers:
            raise InputError(
                f"{origin}: tensor {name} {array.shape} does not fit its configuration "
                f"({config.layers} blocks, here {shape}); weights and config.json disagree"
            )
        place[... if layer is None else layer] = array
        missing[rule.target] -= array.size
    short = sorted(name for name, count in missing.items() if count)
    if short:
        raise InputError(f"{origin}: incomplete, nothing fills {', '.join(short)}; fetch it again")
    return params


def column_slice(config: DecoderConfig, columns: str) -> slice:
    """The columns called q, k, v, gate or up of a parameter that several tensors share."""
    query, keyed = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        "": slice(None),
        "q": slice(query),
        "k": slice(query, query + keyed),
        "v": slice(query + keyed, None),
        "gate": slice(config.hidden),
        "up": slice(config.hidden, None),
    }[columns]


def _find(rules: list[Rule], name: str, refusal: str) -> tuple[Rule, re.Match]:
    for rule in rules:
        if match := re.fullmatch(rule.pattern, name):
            return rule, match
    raise InputError(refusal)
