"""What each scale needs, before anything of it is fetched: parameters, memory, FLOPs.

Shapes are traced, nothing is allocated. FLOPs are those of `evaluation.flops`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import pandas as pd

from ponderttt.errors import InputError
from ponderttt.evaluation.flops import forward_flops
from ponderttt.experiments.config import SCALES, ModelConfig
from ponderttt.machine import Memory, memory
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.families.neox import PYTHIA
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.parameters import initial_params
from ponderttt.models.decoder.precision import DTYPES, resolve
from ponderttt.models.decoder.weights import model_shape
from ponderttt.prepare.recipes import Recipe


class Needs(NamedTuple):
    """What a frozen model and the fast weights of one document need."""

    parameters: int
    """Of the frozen model, the head's once where it is the embedding."""
    weight_bytes: int
    """Of the frozen weights in the type they are computed in."""
    load_bytes: int
    """Of memory while they are read: beside them all of them as float32."""
    fast_parameters: int
    fast_bytes: int
    """Of the fast weights and their gradient, in float32."""
    forward_flops: float
    """A token of the frozen model's forward pass, with its head."""
    read_flops: float
    """A token of reading through the fast weights, beside that."""
    step_flops: float
    """A token of one inner step after every unit."""

    @property
    def step_cost(self) -> float:
        """One inner step in forward passes."""
        return self.step_flops / self.forward_flops


def needs(
    shape: DecoderConfig, recipe: Recipe, *, keys: int | None = None, dtype: str = "float32"
) -> Needs:
    """What a model of this shape needs where each query meets so many `keys` (default: one unit).

    >>> from ponderttt.models.decoder.families import gpt2
    >>> needs(gpt2.gpt2(), Recipe("adamw", 1e-4, 4, cadence=512, rank=64)).parameters
    124439808
    """
    keys = recipe.cadence if keys is None else keys
    frozen = _traced(lambda: initial_params(shape, jax.random.key(0), DTYPES[dtype]))
    fast = _traced(lambda: recipe.adapter().init(TransformerLM.random(shape)))
    flops = recipe.flops(shape, keys)
    return Needs(
        parameters=sum(leaf.size for leaf in frozen),
        weight_bytes=_bytes(frozen),
        load_bytes=_bytes(frozen) + 4 * sum(leaf.size for leaf in frozen),
        fast_parameters=sum(leaf.size for leaf in fast),
        fast_bytes=2 * _bytes(fast),
        forward_flops=forward_flops(shape, keys),
        read_flops=flops.read,
        step_flops=flops.step,
    )


def _traced(make: Callable[[], Any]) -> list[jax.ShapeDtypeStruct]:
    return jax.tree.leaves(jax.eval_shape(make))


def _bytes(leaves: list[jax.ShapeDtypeStruct]) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def scales(*, unit: int = 512, keys: int | None = None, rank: int = 64) -> pd.DataFrame:
    """A row for each preset, by its own LoRA rank, and for each Pythia, by `rank`.

    `parameters` and `fast_parameters` are numbers; `float32_bytes` and `bfloat16_bytes` those of
    the frozen weights, `fast_bytes` those of one document's fast weights and their gradient;
    `forward_flops`, `read_flops` and `step_flops` are a token, where queries meet so many `keys`
    (default: `unit`) and steps follow every `unit` tokens; `step_cost` is a step in forward passes.

    >>> table = scales().set_index("model")
    >>> int(table.loc["gpt2-large", "lora_rank"]), int(table.loc["pythia-1b", "parameters"])
    (256, 1011781632)
    """
    presets = {scale: make().model for scale, make in SCALES.items()}
    models = [*presets.items(), *(("", ModelConfig(name, rank)) for name in PYTHIA)]
    rows = []
    for scale, model in models:
        shape = known_shape(model.model_name)
        recipe = Recipe("adamw", 1e-4, model.suffix_blocks, cadence=unit, rank=model.lora_rank)
        found = needs(shape, recipe, keys=keys)
        half = needs(shape, recipe, keys=keys, dtype="bfloat16")
        row = found._asdict() | {
            "scale": scale, "model": model.model_name, "lora_rank": model.lora_rank,
            "float32_bytes": found.weight_bytes, "bfloat16_bytes": half.weight_bytes,
            "step_cost": found.step_cost,
        }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)[COLUMNS]


COLUMNS = [
    "scale", "model", "parameters", "float32_bytes", "bfloat16_bytes", "lora_rank",
    "fast_parameters", "fast_bytes", "forward_flops", "read_flops", "step_flops", "step_cost",
]  # fmt: skip


def known_shape(name: str) -> DecoderConfig:
    """The shape of a model; one that only the hub could say is an `InputError`."""
    shape = model_shape(name)
    if shape is None:
        raise InputError(
            f"the shape of {name!r} is not known before its files are here: expected a known name "
            "or a folder; fetch the repository and name its folder"
        )
    return shape


class Work(NamedTuple):
    """How much is read at the most: what memory and FLOPs in all are counted for."""

    tokens: int
    """Read in all, after each unit of which `steps` steps are taken."""
    steps: int = 1
    documents: int = 1
    """That have fast weights at once."""
    cached_tokens: int = 0
    """Whose states are kept, in float32."""


def check_needs(
    name: str, shape: DecoderConfig, recipe: Recipe, work: Work, *, dtype: str,
    window: int | None = None, there: Memory | None = None,
) -> str:  # fmt: skip
    """One line on what the model called `name` needs for this work.

    With a `window` (0: all the model's positions) a query meets that and its own unit, without it
    its unit alone. Activations are left out: what is refused could not run, what is not may still
    not. `there` is what memory there is, by default this machine's. An `InputError` where that is
    too little, or the rank is above the model's widths.

    >>> shape, recipe = known_shape("gpt2"), Recipe("adamw", 1e-4, 4, cadence=512, rank=64)
    >>> check_needs("gpt2", shape, recipe, Work(10_000), dtype="float32", there=Memory(1, 10**12))
    Traceback (most recent call last):
    ...
    ponderttt.errors.InputError: gpt2 has 124.4 M parameters; ...
    """
    unit = recipe.cadence
    keys = unit if window is None else unit + (window or shape.max_positions)
    found = needs(shape, recipe, keys=keys, dtype=resolve(dtype))
    cached = 4 * work.cached_tokens * shape.width
    held = found.weight_bytes + work.documents * found.fast_bytes + cached
    taken = replace(recipe, steps=work.steps).flops(shape, keys).step if work.steps else 0.0
    total = work.tokens * (found.forward_flops + found.read_flops + taken)
    there = memory() if there is None else there
    line = (
        f"{name} has {found.parameters / 1e6:.1f} M parameters; it needs {_size(held)} of memory "
        f"or more, and {_size(found.load_bytes)} while it is read; a token takes "
        f"{_flops(found.forward_flops + found.read_flops)}, and of one inner step "
        f"{_flops(found.step_flops)} ({found.step_cost:.2f} of a forward pass): at most "
        f"{total / 1e12:.2f} TFLOPs in all"
    )
    for needed, has, where in (
        (found.load_bytes, there.host, "machine"), (held, there.device, "device"),
    ):  # fmt: skip
        if needed > has:
            raise InputError(
                f"{line}: this {where} has {_size(has)}, expected {_size(needed)} or more; choose "
                "a smaller --model_scale, fewer or shorter documents, or a larger machine"
            )
    return line


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


def _flops(count: float) -> str:
    return f"{count / 1e9:.3f} GFLOPs"
