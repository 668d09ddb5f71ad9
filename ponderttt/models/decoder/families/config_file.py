"""What a config.json may hold: every key is used, known to be harmless, or refused.

A family states the keys that it uses as a frozen dataclass: names, types, bounds and the values
that transformers takes where a key is absent.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from ponderttt.checks import shown
from ponderttt.data.text import printable
from ponderttt.errors import InputError

Keys = TypeVar("Keys")

HARMLESS = frozenset(
    """
    model_type architectures transformers_version torch_dtype dtype name_or_path _name_or_path
    _commit_hash _attn_implementation attn_implementation _attn_implementation_autoset
    _attn_implementation_internal _experts_implementation experts_implementation
    _flash_attn_2_enabled use_cache output_attentions output_hidden_states return_dict torchscript
    use_bfloat16 tf_legacy_loss output_past gradient_checkpointing is_decoder
    chunk_size_feed_forward initializer_range pretraining_tp reorder_and_upcast_attn
    tie_last_hidden_states attn_pdrop embd_pdrop resid_pdrop attention_dropout hidden_dropout
    summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout
    predict_special_tokens n_ctx
    bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id cls_token_id mask_token_id
    decoder_start_token_id tokenizer_class prefix id2label label2id num_labels _num_labels
    problem_type xla_device model_parallel max_sequence_length
    finetuning_task task_specific_params max_length min_length max_new_tokens do_sample
    early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p
    repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
    bad_words_ids num_return_sequences output_scores return_dict_in_generate forced_bos_token_id
    forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens is_llama_config transformers.js_config unsloth_version unsloth_fixed
    """.split()
)
"""Keys that transformers writes or once wrote, and that change no logit where nothing is trained:
origins, storage, dropout, generation, classification heads, the number of slices of a product."""

ONLY: dict[str, tuple] = {
    "quantization_config": (None,),
    "sliding_window": (None,),
    "use_sliding_window": (False,),
    "cross_attention_hidden_size": (None,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
    "per_layer_config": ({}, None),
    "rope_interleaved": (False,),
}
"""Keys of any family with the values that the decoder computes; others are refused."""

CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Keys that name code of the checkpoint's own."""


def check_no_code(raw: Mapping[str, Any]) -> None:
    """An `InputError` if a configuration names code of its own, which is never imported."""
    for key in CODE:
        if raw.get(key):
            raise InputError(
                f"{key} names code of this folder's own, which is never run here; expected a model "
                f"that model_type alone describes (if it is one, remove {key})"
            )


def read_keys(
    kind: type[Keys],
    raw: Mapping[str, Any],
    *,
    spelled: Mapping[str, str] | None = None,
    only: Mapping[str, tuple] | None = None,
    harmless: frozenset[str] = HARMLESS,
) -> Keys:
    """`raw` as a dataclass `kind` has it, which checks its values itself.

    `spelled` are other names of keys; `only` are keys with the values that are computed. An
    `InputError` for a key that means nothing known, or something that is not computed.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {key: value for key, value in raw.items() if key in known}
    for key, value in raw.items():
        if name := (spelled or {}).get(key):
            if name in raw and raw[name] != value:
                raise InputError(f"{key} is {value!r} and {name} {raw[name]!r}: expected one value")
            values[name] = value
        elif key in (only or {}):
            _check_only(key, value, (only or {})[key])
        elif key not in known and key not in harmless and key not in CODE:
            raise InputError(
                f"{printable(key)} is {shown(value, 60)}, a key that no model of this family is "
                "known to have: it may change what is computed; remove it if it does not"
            )
    return kind(**values)


def _check_only(key: str, value: Any, computed: tuple) -> None:
    if not any(type(value) is type(each) and value == each for each in computed):
        raise InputError(
            f"{key} is {shown(value, 60)}, which is not supported: expected {computed[0]!r}; "
            "use a model without it"
        )
