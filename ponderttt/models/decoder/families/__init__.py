"""Families of decoders by the `model_type` of their config.json: a new one is a file and a line."""

from ponderttt.models.decoder.families import gpt2, llama, neox, qwen2
from ponderttt.models.decoder.families.family import Family

FAMILIES: dict[str, Family] = {
    "llama": llama.FAMILY,
    "gpt2": gpt2.FAMILY,
    "gpt_neox": neox.FAMILY,
    "qwen2": qwen2.FAMILY,
}
