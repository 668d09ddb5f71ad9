"""Saved models in every layout and spelling of the differential matrix, from a few base models.

Used by the test and by `golden/make_matrix_golden.py`, which runs without ponderttt: this file
needs NumPy alone. Weights are multiples of 1/64, the same in every type that holds them.
"""

import itertools
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Config = dict[str, Any]
Tensors = dict[str, np.ndarray]
Files = dict[str, Tensors]

EMBEDDING = {
    "gpt2": "transformer.wte.weight", "llama": "model.embed_tokens.weight",
    "neox": "gpt_neox.embed_in.weight",
}  # fmt: skip
HEAD = {"gpt2": "lm_head.weight", "llama": "lm_head.weight", "neox": "embed_out.weight"}
PREFIX = {"gpt2": "transformer.", "llama": "model.", "neox": "gpt_neox."}
DTYPES = ("F32", "F16", "BF16", "F64")


class Variant(NamedTuple):
    """One folder: `write` makes it of a base's configuration and tensors.

    `refused` is what the refusal says; None where the base's logits are expected.
    """

    label: str
    base: str
    write: Callable[[Path, Config, Tensors], None]
    refused: str | None = None
    beyond: bool = False
    """Read here, and refused by transformers."""


def encode(array: np.ndarray, dtype: str) -> bytes:
    """`array` as safetensors has it in `dtype`."""
    if dtype == "BF16":
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if dtype.startswith("F8"):
        return bytes(array.size)
    kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I8": "i1", "I32": "<i4", "BOOL": "?"}
    return array.astype(kinds[dtype]).tobytes()


def save(path: Path, tensors: Tensors, dtype: str | Callable[[str], str] = "F32") -> None:
    """A safetensors file, its tensors in one type or each in its own."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    content = b""
    for name, array in tensors.items():
        kind = dtype if isinstance(dtype, str) else dtype(name)
        data = encode(array, kind)
        offsets = [len(content), len(content) + len(data)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        content += data
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + content)


def shard(folder: Path, files: Files, dtype: str = "F32", *, index: bool = True) -> None:
    """Several files, and the index that says which tensor is where."""
    for name, tensors in files.items():
        save(folder / name, tensors, dtype)
    if index:
        weight_map = {tensor: name for name, tensors in files.items() for tensor in tensors}
        content = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def halves(tensors: Tensors, total: int = 2) -> Files:
    """Every `total`-th tensor in a file of its own."""
    names = sorted(tensors)
    return {
        f"model-{i + 1:05d}-of-{total:05d}.safetensors": {n: tensors[n] for n in names[i::total]}
        for i in range(total)
    }


def write_config(folder: Path, config: Config) -> None:
    """Its config.json."""
    (folder / "config.json").write_text(json.dumps(config))


def family_of(base: str) -> str:
    """`llama` of `llama-tied`, and of its kin, whose tensors are called the same."""
    return {"llama3": "llama", "qwen2": "llama"}.get(kind := base.split("-")[0], kind)


def spellings_of(base: str) -> dict[str, Callable[[Config], Config]]:
    """Configurations that mean the same as the base's."""
    return SPELLINGS[base.split("-")[0]]


# What a layout does to the tensors of a base.


def without_prefix(base: str, tensors: Tensors) -> Tensors:
    """As the base class saves them."""
    return {name.removeprefix(PREFIX[family_of(base)]): x for name, x in tensors.items()}


def with_head(how: str, base: str, tensors: Tensors) -> Tensors:
    """Of a tied model: the embedding, the head or both."""
    name, head = EMBEDDING[family_of(base)], HEAD[family_of(base)]
    both = {head: tensors[name]} | tensors
    return {k: x for k, x in both.items() if k != {"embedding": head, "head": name}.get(how)}


def with_buffers(how: str, base: str, tensors: Tensors) -> Tensors:
    """Buffers that older versions saved: masks of GPT-2, frequencies of Llama, both of NeoX."""
    masks, half = np.tril(np.ones((1, 1, 8, 8), np.float32)), np.ones(2, np.float32)
    extra: Tensors = {}
    if how == "each":
        for i in range(2):
            extra |= {
                "gpt2": {
                    f"transformer.h.{i}.attn.bias": masks,
                    f"transformer.h.{i}.attn.masked_bias": np.full((), -1e4, np.float32),
                },
                "llama": {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": half},
                "neox": {
                    f"gpt_neox.layers.{i}.attention.bias": masks,
                    f"gpt_neox.layers.{i}.attention.masked_bias": np.full((), -1e4, np.float32),
                    f"gpt_neox.layers.{i}.attention.rotary_emb.inv_freq": half,
                },
            }[family_of(base)]
    elif how == "one" and family_of(base) != "gpt2":
        extra = {f"{PREFIX[family_of(base)]}rotary_emb.inv_freq": half}
    return tensors | extra


SPELLINGS: dict[str, dict[str, Callable[[Config], Config]]] = {
    "gpt2": {
        "as saved": lambda c: c,
        "standard names": lambda c: {
            {"n_embd": "hidden_size", "n_layer": "num_hidden_layers",
             "n_head": "num_attention_heads", "n_positions": "max_position_embeddings"}.get(k, k): v
            for k, v in c.items()
        },
        "both names": lambda c: c | {"hidden_size": c["n_embd"], "n_ctx": 7},
        "version 4": lambda c: c | {"torch_dtype": "float16", "_name_or_path": "x", "n_ctx": 64,
                                    "task_specific_params": {"text-generation": {"do_sample": 1}},
                                    "gradient_checkpointing": False, "temperature": 0.7},
        "upcast": lambda c: c | {"reorder_and_upcast_attn": True},
        "no dropout keys": lambda c: {k: v for k, v in c.items() if "pdrop" not in k},
    },
    "llama": {
        "as saved": lambda c: c,
        "top": lambda c: _rope(c, {}, rope_theta=_theta(c)),
        "top, integer": lambda c: _rope(c, {}, rope_theta=int(_theta(c))),
        "top, scaling null": lambda c: _rope(c, {}, rope_theta=_theta(c), rope_scaling=None),
        "scaling, default": lambda c: _rope(
            c, {}, rope_scaling={"rope_type": "default", "rope_theta": _theta(c)}
        ),
        "scaling, type": lambda c: _rope(c, {}, rope_scaling={"type": "default"},
                                         rope_theta=_theta(c)),
        "parameters, base only": lambda c: _rope(c, {"rope_theta": _theta(c)}),
        "parameters and top": lambda c: _rope(c, {"rope_type": "default"}, rope_theta=_theta(c)),
        "everywhere the same": lambda c: _rope(
            c, {"rope_theta": _theta(c)}, rope_theta=_theta(c),
            rope_scaling={"rope_theta": _theta(c)},
        ),
        "swish": lambda c: c | {"hidden_act": "swish"},
        "old keys": lambda c: c | {"torch_dtype": "bfloat16", "pretraining_tp": 2,
                                   "sliding_window": None, "is_llama_config": True,
                                   "rope_interleaved": False, "attention_dropout": 0.1},
    },
    "neox": {
        "as saved": lambda c: c,
        "top": lambda c: _rope(c, {}, rotary_pct=_share(c), rotary_emb_base=_theta(c)),
        "top, integer": lambda c: _rope(c, {}, rotary_pct=_share(c),
                                        rotary_emb_base=int(_theta(c))),
        "scaling, default": lambda c: _rope(
            c, {}, rope_scaling={"type": "default", "partial_rotary_factor": _share(c)},
            rotary_emb_base=_theta(c),
        ),
        "base beside": lambda c: _rope(c, {"partial_rotary_factor": _share(c)},
                                       rotary_emb_base=_theta(c)),
        "everywhere the same": lambda c: c | {"rotary_pct": _share(c),
                                              "rotary_emb_base": _theta(c)},
        "of the hub": lambda c: _rope(c, {}, rotary_pct=_share(c), rotary_emb_base=_theta(c),
                                      torch_dtype="float16", classifier_dropout=0.1),
    },
}  # fmt: skip
SPELLINGS["llama3"] = {
    "as saved": lambda c: c,
    "scaling, base beside": lambda c: _rope(c, {}, rope_theta=_theta(c), rope_scaling={
        k: x for k, x in c["rope_parameters"].items() if k != "rope_theta"
    }),
    "scaling, type": lambda c: _rope(c, {}, rope_scaling={
        {"rope_type": "type"}.get(k, k): x for k, x in c["rope_parameters"].items()
    }),
    "everywhere the same": lambda c: c | {"rope_theta": _theta(c),
                                          "rope_scaling": c["rope_parameters"]},
}  # fmt: skip
SPELLINGS["qwen2"] = SPELLINGS["llama"] | {
    "of the hub": lambda c: _rope(
        c,
        {},
        rope_theta=_theta(c),
        sliding_window=32,
        max_window_layers=1,
        use_mrope=False,
        use_sliding_window=False,
    ),
}
"""Configurations that mean the same."""


def _theta(config: Config) -> float:
    return config["rope_parameters"]["rope_theta"]


def _share(config: Config) -> float:
    return config["rope_parameters"]["partial_rotary_factor"]


def _rope(config: Config, parameters: dict, **beside: Any) -> Config:
    kept = {k: v for k, v in config.items() if k not in ("rope_parameters", "rope_scaling")}
    return kept | ({"rope_parameters": parameters} if parameters else {}) | beside


def _store(how: str, folder: Path, base: str, tensors: Tensors, dtype: str) -> None:
    """In one file, in shards, or beside what is not to be read."""
    if how == "shards":
        shard(folder, halves(tensors, 3), dtype)
    else:
        save(folder / "model.safetensors", tensors, dtype)
    if how == "beside others":
        wrong = {name: x + 1 for name, x in tensors.items()}
        for name in ("model.fp16", "adapter_model", "optimizer", "model-00001-of-00002"):
            save(folder / f"{name}.safetensors", wrong)
        (folder / "model.safetensors.index.json").write_text("{")


def layouts(bases: dict[str, Config]) -> Iterator[Variant]:
    """Every prefix, type and storage of every base; the other axes take turns."""
    for base, config in bases.items():
        tied = config["tie_word_embeddings"]
        spellings = spellings_of(base)
        products = list(itertools.product((True, False), DTYPES,
                                          ("one file", "shards", "beside others")))  # fmt: skip
        for i, (prefix, dtype, storage) in enumerate(products):
            head = ("embedding", "head", "both")[i // 2 % 3] if tied else "as saved"
            buffers = ("none", "each", "one")[(i + i // 3) % 3]
            spelling = list(spellings)[i % len(spellings)]

            def write(
                folder, config, tensors, base=base, prefix=prefix, dtype=dtype, storage=storage,
                head=head, buffers=buffers, spell=spellings[spelling],
            ):  # fmt: skip
                write_config(folder, spell(config))
                tensors = with_buffers(buffers, base, with_head(head, base, tensors))
                if not prefix:
                    tensors = without_prefix(base, tensors)
                _store(storage, folder, base, tensors, dtype)

            said = (
                "prefix" if prefix else "no prefix", dtype, storage, f"head {head}",
                f"buffers {buffers}", spelling,
            )  # fmt: skip
            yield Variant(f"{base}: {', '.join(said)}", base, write)
