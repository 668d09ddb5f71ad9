"""Qwen2 and 2.5: a Llama whose queries, keys and values have biases."""

from dataclasses import dataclass

from ponderttt.checks import Count, shown
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.families import llama
from ponderttt.models.decoder.families.config_file import HARMLESS, ONLY, read_keys
from ponderttt.models.decoder.families.family import Family, require


def tiny() -> DecoderConfig:
    """Two layers over the 257 symbols of the byte tokenizer, for smoke runs and tests."""
    return llama.tiny().replace(family="qwen2", qkv_bias=True)


@dataclass(frozen=True)
class Keys(llama.SharedKeys):
    """What config.json says of a Qwen2; the defaults are those of transformers."""

    vocab_size: Count = 151936
    intermediate_size: Count = 22016
    num_key_value_heads: Count | None = 32
    max_position_embeddings: Count = 32768


UNUSED = frozenset({"sliding_window", "max_window_layers"})
"""Keys that say something only where `use_sliding_window` is true, which is refused."""


def read_config(raw: dict) -> DecoderConfig:
    """From a `config.json`."""
    llama.check_base(raw)
    layers = raw.get("layer_types")
    require(
        layers is None or (isinstance(layers, list) and all(x == "full_attention" for x in layers)),
        f"layer_types is {shown(layers, 60)}, which is not supported: expected full_attention "
        "alone; use a model without other attention",
    )
    only = {key: values for key, values in ONLY.items() if key not in UNUSED}
    keys = read_keys(
        Keys, raw, only=only | {"use_mrope": (False,)}, harmless=HARMLESS | UNUSED | {"layer_types"}
    )
    return llama.from_keys(keys, qkv_bias=True, family="qwen2")


FAMILY = Family(read_config=read_config, rules=llama.RULES, random={"tiny-qwen2": tiny()})
