"""From the tensors of a checkpoint to a decoder's parameters, by a family's table of rules."""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

import jax
import numpy as np

from ponderttt.data.text import printable
from ponderttt.errors import InputError
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.files import Tensor
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


class Place(NamedTuple):
    """What one tensor fills: a parameter, a block's layer of it, some of its columns."""

    target: str
    columns: str
    layer: int | None


def transposed(config: DecoderConfig, array: np.ndarray) -> np.ndarray:
    """A weight stored [out, in]."""
    return array.T


def assemble(
    config: DecoderConfig, tensors: Iterable[Tensor], rules: list[Rule], origin: str
) -> dict[str, np.ndarray]:
    """Float32 parameters from named tensors; what does not fit `config` is an `InputError`.

    Every place is filled, and known to be so before anything is read. A tensor that is there twice
    has to be the same both times. As in transformers, tied matrices may be stored under either name
    or both; two that differ are not tied: then there is an `output` in what is returned.
    """
    found = _by_place(config, tensors, rules, origin)
    embedding, output = Place("embedding", "", None), Place("output", "", None)
    if config.tied_head and embedding not in found and output in found:
        found[embedding] = found.pop(output)
    _check_complete(config, rules, found, origin)
    shapes = param_shapes(config.replace(tied_head=output not in found))
    params: dict[str, np.ndarray] = {}
    for place, candidates in found.items():
        filled = None
        for rule, tensor in candidates:
            array = rule.transform(config, _finite(tensor, origin))
            filled = array if filled is None else filled
            if not np.array_equal(filled, array):
                raise InputError(
                    f"{origin}: tensor {printable(tensor.name)} is there twice and differs; "
                    "expected one copy: remove the other or save the model again"
                )
        _fill(config, params, shapes, place, array, f"{origin}: tensor {printable(tensor.name)}")
    if config.tied_head and "output" in params:
        if np.array_equal(params["output"], params["embedding"]):
            del params["output"]
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


Found = dict[Place, list[tuple[Rule, Tensor]]]


def _by_place(
    config: DecoderConfig, tensors: Iterable[Tensor], rules: list[Rule], origin: str
) -> Found:
    found: Found = {}
    known = {*param_shapes(config), "output"}
    for tensor in tensors:
        rule, layer = _find(rules, tensor.name)
        if rule is None:
            raise InputError(
                f"{origin}: tensor {printable(tensor.name)} is of no known kind; expected "
                f"the checkpoint of a {config.family} language model"
            )
        if not rule.target:
            continue
        if rule.target not in known:
            raise InputError(
                f"{origin}: tensor {printable(tensor.name)} has no place in a model as config.json "
                "describes it, which would be computed without it; correct config.json"
            )
        if layer is not None and layer >= config.layers:
            raise InputError(
                f"{origin}: tensor {printable(tensor.name)} does not fit its configuration "
                f"({config.layers} blocks); weights and config.json disagree"
            )
        found.setdefault(Place(rule.target, rule.columns, layer), []).append((rule, tensor))
    return found


def _find(rules: list[Rule], name: str) -> tuple[Rule | None, int | None]:
    for rule in rules:
        if match := re.fullmatch(rule.pattern, name):
            layer = match.group(1) if match.groups() else None
            if layer is None or str(int(layer)) == layer:  # no h.01 beside h.1
                return rule, layer and int(layer)  # type: ignore[return-value]
    return None, None


def _check_complete(config: DecoderConfig, rules: list[Rule], found: Found, origin: str) -> None:
    """Every parameter is filled, all of its columns in every block."""
    missing = []
    for target in sorted(param_shapes(config)):
        columns = dict.fromkeys(rule.columns for rule in rules if rule.target == target)
        for part in columns or ("",):
            name = f"{target} ({part})" if part else target
            if not target.startswith("blocks."):
                if Place(target, part, None) not in found:
                    missing.append(name)
                continue
            have = sum(place[:2] == (target, part) for place in found)
            absent = (i for i in range(config.layers) if Place(target, part, i) not in found)
            if have < config.layers:
                first = ", ".join(map(str, islice(absent, 3)))
                more = config.layers - have - 3
                some = f" and {more} more" if more > 0 else ""
                missing.append(f"{name} of layer {first}{some}")
    if missing:
        some = f" and {len(missing) - 4} others" if len(missing) > 4 else ""
        raise InputError(
            f"{origin}: incomplete, nothing fills {'; '.join(missing[:4])}{some}; "
            f"fetch it again, or correct config.json"
        )


def _finite(tensor: Tensor, origin: str) -> np.ndarray:
    array = tensor.read()
    if not np.isfinite(array).all():
        raise InputError(
            f"{origin}: tensor {printable(tensor.name)} holds NaN or infinity (as float32), "
            "so every loss would be NaN; fetch or train it again"
        )
    return array


def _fill(config, params, shapes, place: Place, array: np.ndarray, name: str) -> None:
    """`array` in its place, which is made where it is the parameter's first."""
    shape = list(shapes[place.target])
    if place.layer is not None:
        del shape[0]
    shape[-1] = len(range(shape[-1])[column_slice(config, place.columns)])
    if array.shape != tuple(shape):
        raise InputError(
            f"{name} {array.shape} does not fit its configuration "
            f"({config.layers} blocks, here {tuple(shape)}); weights and config.json disagree"
        )
    if place.target not in params:
        params[place.target] = np.empty(shapes[place.target], np.float32)
    part = params[place.target][..., column_slice(config, place.columns)]
    part[... if place.layer is None else place.layer] = array
