"""The differential matrix: layouts that load, and what is refused with the reason that is given."""

import json
from collections.abc import Iterator
from functools import partial

import numpy as np
from support.checkpoints import (
    EMBEDDING,
    HEAD,
    Config,
    Variant,
    family_of,
    halves,
    layouts,
    save,
    shard,
    spellings_of,
    without_prefix,
    write_config,
)

CHANGES: dict[str, list[tuple[str, dict]]] = {
    "gpt2-tied": [
        ("n_head", {"n_head": 3}),
        ("n_embd is '16'", {"n_embd": "16"}),
        ("n_layer is 2.0", {"n_layer": 2.0}),
        ("n_layer is True", {"n_layer": True}),
        ("n_layer is 0", {"n_layer": 0}),
        ("n_positions is None", {"n_positions": None}),
        ("n_inner is 0", {"n_inner": 0}),
        ("layer_norm_epsilon is '1e-5'", {"layer_norm_epsilon": "1e-5"}),
        ("layer_norm_epsilon is None", {"layer_norm_epsilon": None}),
        ("layer_norm_epsilon is nan", {"layer_norm_epsilon": float("nan")}),
        ("layer_norm_epsilon is -1e-05", {"layer_norm_epsilon": -1e-5}),
        ("tie_word_embeddings is None", {"tie_word_embeddings": None}),
        ("tie_word_embeddings is 1", {"tie_word_embeddings": 1}),
        ("nothing fills output", {"tie_word_embeddings": False}),
        ("activation_function 'relu'", {"activation_function": "relu"}),
        ("activation_function None", {"activation_function": None}),
        ("scale_attn_weights is False", {"scale_attn_weights": False}),
        ("layer-scaled", {"scale_attn_by_inverse_layer_idx": True}),
        ("add_cross_attention is True", {"add_cross_attention": True}),
        ("pruned_heads", {"pruned_heads": {"0": [1]}}),
        ("hidden_size is 32 and n_embd 16", {"hidden_size": 32}),
        ("quantization_config", {"quantization_config": {"quant_method": "gptq"}}),
        ("auto_map names code", {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}),
        ("attn_logit_softcapping", {"attn_logit_softcapping": 30.0}),
        ("model_type 'bert'", {"model_type": "bert"}),
        ("model_type None", {"model_type": None}),
        (r"model_type \['gpt2'\]", {"model_type": ["gpt2"]}),
        ("disagree", {"n_layer": 1}),
        ("of layer 2, 3, 4 and 999999995 more", {"n_layer": 10**9}),
        ("disagree", {"vocab_size": 10**9}),
        ("disagree", {"n_positions": 16}),
        ("disagree", {"n_inner": 32}),
    ],
    "llama-untied": [
        ("rms_norm_eps is '1e-2'", {"rms_norm_eps": "1e-2"}),
        ("num_hidden_layers is '2'", {"num_hidden_layers": "2"}),
        ("head_dim is 0", {"head_dim": 0}),
        ("head_dim is 3", {"head_dim": 3}),
        ("num_attention_heads", {"num_attention_heads": 3}),
        ("num_key_value_heads is 0", {"num_key_value_heads": 0}),
        ("multiple of kv_heads", {"num_key_value_heads": 3}),
        ("disagree", {"num_key_value_heads": None}),
        ("disagree", {"head_dim": 8}),
        ("disagree", {"vocab_size": 64}),
        ("disagree", {"intermediate_size": 40}),
        ("disagree", {"num_hidden_layers": 1}),
        ("nothing fills", {"num_hidden_layers": 3}),
        ("hidden_act 'gelu'", {"hidden_act": "gelu"}),
        ("nothing fills blocks.attention_out_bias", {"attention_bias": True}),
        ("attention_bias is 0", {"attention_bias": 0}),
        ("nothing fills blocks.mlp_in_bias", {"mlp_bias": True}),
        ("sliding_window is 8", {"sliding_window": 8}),
        ("partial_rotary_factor is 0.5", {"partial_rotary_factor": 0.5}),
        ("rope_theta is '500'", {"rope_parameters": None, "rope_theta": "500"}),
        ("rope_theta is null", {"rope_parameters": None, "rope_theta": None}),
        ("rope_theta is 0", {"rope_parameters": None, "rope_theta": 0}),
        ("rope_parameters is 3", {"rope_parameters": 3}),
        ("disagree", {"rope_theta": 10_000.0}),
        ("disagree", {"rope_scaling": {"rope_type": "default", "rope_theta": 10_000.0}}),
        ("disagree", {"rope_scaling": {"type": "default"}}),
        ("rope_parameters: rope_theta is None", {"rope_parameters": {"rope_theta": None}}),
        ("rope_type 'linear'", {"rope_parameters": {"rope_type": "linear", "factor": 2.0,
                                                    "rope_theta": 50_000.0}}),
        ("rope_type 'linear'", {"rope_scaling": {"type": "linear", "factor": 2.0,
                                                 "rope_theta": 50_000.0}}),
        ("disagree", {"rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16, "rope_theta": 50_000.0}}),
        ("low_freq_factor is 4, a key", {"rope_parameters": {
            "rope_type": "default", "low_freq_factor": 4, "rope_theta": 50_000.0}}),
        ("rope_type 'yarn'", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0,
                                                  "rope_theta": 50_000.0}}),
        ("factor is 2.0", {"rope_parameters": {"rope_type": "default", "factor": 2.0,
                                               "rope_theta": 50_000.0}}),
        ("full_attention", {"rope_parameters": {"full_attention": {"rope_theta": 50_000.0}}}),
        ("partial_rotary_factor is 0.5", {"rope_parameters": {
            "rope_theta": 50_000.0, "partial_rotary_factor": 0.5}}),
        ("residual_multiplier", {"residual_multiplier": 0.5}),
    ],
    "llama3-scaled": [
        ("has no place", {"attention_bias": False}),
        ("has no place", {"mlp_bias": False}),
        *(
            (said, {"rope_parameters": {
                "rope_type": "llama3", "rope_theta": 200.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 16} | change})
            for said, change in (
                ("factor is absent", {"factor": None}),
                ("factor is 0.5", {"factor": 0.5}),
                ("factor is '8'", {"factor": "8"}),
                ("low_freq_factor is 4: expected less", {"low_freq_factor": 4}),
                ("high_freq_factor is absent", {"high_freq_factor": None}),
                ("original_max_position_embeddings is 0", {"original_max_position_embeddings": 0}),
                ("original_max_position_embeddings is 16.0",
                 {"original_max_position_embeddings": 16.0}),
                ("rope_type and type disagree", {"type": "default"}),
                ("rope_type 'dynamic'", {"rope_type": "dynamic"}),
                ("beta_fast", {"beta_fast": 32}),
            )
        ),
        ("disagree", {"rope_scaling": {"rope_type": "default", "rope_theta": 200.0}}),
        ("original_max_position_embeddings is 16, a key",
         {"original_max_position_embeddings": 16}),
    ],
    "qwen2-tied": [
        ("use_sliding_window is True", {"use_sliding_window": True}),
        ("use_mrope is True", {"use_mrope": True}),
        ("layer_types is .*expected full_attention",
         {"layer_types": ["full_attention", "sliding_attention"]}),
        ("attention_bias is True, a key", {"attention_bias": True}),
        ("layer_types is .*a key", {"model_type": "llama"}),
    ],
    "neox-parallel": [
        ("num_attention_heads", {"num_attention_heads": 3}),
        ("hidden_size is '32'", {"hidden_size": "32"}),
        ("hidden_size is 0", {"hidden_size": 0}),
        ("layer_norm_eps is None", {"layer_norm_eps": None}),
        ("use_parallel_residual is 1", {"use_parallel_residual": 1}),
        ("hidden_act 'relu'", {"hidden_act": "relu"}),
        ("head_dim is 4", {"head_dim": 4}),
        ("rope_theta is 500.0, a key that no model", {"rope_theta": 500.0}),
        ("rotary_pct is null", {"rotary_pct": None}),
        ("rotary_emb_base is null", {"rotary_emb_base": None}),
        ("rotary_pct is 1.5", {"rotary_pct": 1.5}),
        ("rotary_pct is 0", {"rotary_pct": 0}),
        ("disagree", {"rotary_pct": 0.5}),
        ("disagree", {"rotary_emb_base": 500}),
        ("disagree", {"rope_scaling": {"type": "default", "rope_theta": 500}}),
        ("turn 1 of a head's 16", {"rope_parameters": None, "rotary_pct": 0.1}),
        ("turn 0 of a head's 16", {"rope_parameters": None, "rotary_pct": 0.05}),
        ("turn 3 of a head's 16", {"rope_parameters": None, "rotary_pct": 0.2}),
        ("rope_type 'linear'", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
        ("rope_type 'dynamic'", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
        ("has no place", {"attention_bias": False}),
        ("nothing fills", {"num_hidden_layers": 3}),
        ("disagree", {"num_hidden_layers": 1}),
        ("disagree", {"vocab_size": 64}),
        ("disagree", {"intermediate_size": 64}),
    ],
    "neox-sequential": [("nothing fills output", {"tie_word_embeddings": False})],
    "neox-parallel-whole": [("nothing fills blocks.attention_out_bias", {"attention_bias": True})],
}  # fmt: skip
"""What a refusal says, and the changes of the configuration that are refused so."""

GELUS = ("gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate")
DEFAULTS = {
    "gpt2-tied": "n_inner layer_norm_epsilon activation_function tie_word_embeddings "
    "scale_attn_weights architectures transformers_version dtype",
    "llama-tied": "rms_norm_eps num_key_value_heads head_dim hidden_act attention_bias mlp_bias "
    "architectures transformers_version dtype",
    "neox-parallel": "layer_norm_eps hidden_act use_parallel_residual attention_bias "
    "tie_word_embeddings rope_parameters architectures transformers_version dtype",
}
"""Keys whose values are those that transformers takes where they are absent."""


def one_file(folder, config, tensors, *, change=None, edit=None, dtype="F32"):
    """A folder with one file, its configuration changed and its tensors edited."""
    write_config(folder, change(config) if change else config)
    save(folder / "model.safetensors", edit(tensors) if edit else tensors, dtype)


def variants(bases: dict[str, Config]) -> Iterator[Variant]:
    """All of them."""
    yield from layouts(bases)
    for base in bases:
        for name, spell in spellings_of(base).items():
            yield Variant(f"{base}: spelled {name}", base, partial(one_file, change=spell))
        yield from _loaded(base)
        yield from _sharded(base)
    for base, keys in DEFAULTS.items():
        absent = keys.split()
        yield Variant(
            f"{base}: keys that are defaults", base,
            partial(one_file, change=lambda c, absent=absent: _without(c, absent)),
        )  # fmt: skip
    for gelu in GELUS:
        change = partial(_changed, activation_function=gelu)
        yield Variant(f"gpt2-tied: {gelu}", "gpt2-tied", partial(one_file, change=change))
        change, base = partial(_changed, hidden_act=gelu), "neox-parallel-whole"
        yield Variant(f"{base}: {gelu}", base, partial(one_file, change=change))
    edit = partial(_renamed, old=HEAD["neox"], new="lm_head.weight")
    for base in ("neox-parallel", "neox-sequential-whole"):
        yield Variant(f"{base}: the head's newer name", base, partial(one_file, edit=edit))
    for base in ("gpt2-untied", "llama-untied", "neox-parallel"):
        change = partial(_changed, tie_word_embeddings=True)
        yield Variant(f"{base}: said to be tied", base, partial(one_file, change=change))
    for base, changes in CHANGES.items():
        for i, (refused, change) in enumerate(changes):
            write = partial(one_file, change=partial(_changed, **change))
            yield Variant(f"{base}: change {i}, {refused}", base, write, refused)
    yield from _absent(bases)
    yield from _other_files("gpt2-tied")


def _changed(config: Config, /, **changes) -> Config:
    return config | changes


def _without(config: Config, keys: list[str]) -> Config:
    return {key: value for key, value in config.items() if key not in keys}


def _loaded(base: str) -> Iterator[Variant]:
    """Mixed prefixes and types; and tensors that are not what they should be."""
    name = EMBEDDING[family_of(base)]
    bare = next(iter(without_prefix(base, {name: np.zeros(0)})))
    yield Variant(
        f"{base}: mixed prefixes", base,
        partial(one_file, edit=lambda t: _renamed(t, name, bare)),
    )  # fmt: skip
    mixed = ("F32", "F16", "BF16", "F64")
    yield Variant(
        f"{base}: mixed types", base,
        partial(one_file, dtype=lambda tensor: mixed[len(tensor) % 4]),
    )  # fmt: skip
    for dtype in ("F8_E4M3", "F8_E5M2", "I8", "I32", "BOOL"):
        pick = partial(lambda dtype, tensor: dtype if tensor == name else "F32", dtype)
        yield Variant(
            f"{base}: {dtype}", base, partial(one_file, dtype=pick), f"type {dtype}, expected F32"
        )
    edits = {
        "is there twice and differs": lambda t: t | {bare: t[name] + 1},
        "no known kind": lambda t: t | {"score.weight": t[name]},
        "NaN or infinity": lambda t: t | {name: t[name] * np.nan},
        "does not fit": lambda t: t | {name: t[name][:, :-1]},
        "nothing fills embedding": lambda t: {k: x for k, x in t.items() if k != name},
    }
    for refused, edit in edits.items():
        yield Variant(f"{base}: {refused}", base, partial(one_file, edit=edit), refused)


def _renamed(tensors, old: str, new: str):
    return {new if name == old else name: x for name, x in tensors.items()}


def _absent(bases: dict[str, Config]) -> Iterator[Variant]:
    """Each tensor of a block, absent; and the second block's once more the first's."""
    parts = {
        "gpt2-tied": [
            f"h.1.{part}.{kind}" for kind in ("weight", "bias")
            for part in ("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        ],
        "llama-untied": [
            f"layers.1.{part}.weight"
            for part in (
                *(f"self_attn.{p}_proj" for p in "qkvo"), "input_layernorm",
                *(f"mlp.{p}_proj" for p in ("gate", "up", "down")), "post_attention_layernorm",
            )
        ] + [HEAD["llama"]],
        "neox-parallel": [
            f"layers.1.{part}.{kind}" for kind in ("weight", "bias")
            for part in (
                "input_layernorm", "post_attention_layernorm", "attention.query_key_value",
                "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
            )
        ] + [HEAD["neox"]],
    }  # fmt: skip
    for base, names in parts.items():
        for name in names:
            edit = partial(lambda end, t: {k: x for k, x in t.items() if not k.endswith(end)}, name)
            where = "output" if name == HEAD[family_of(base)] else "of layer 1"
            refused = f"nothing fills [^;]*{where}"
            yield Variant(f"{base}: no {name}", base, partial(one_file, edit=edit), refused)


def _sharded(base: str) -> Iterator[Variant]:
    """Files and their index, right and wrong."""
    name, block = EMBEDDING[family_of(base)], ".1."

    def shards(folder, config, tensors, *, change=lambda files: files, index=True, map_as=None):
        write_config(folder, config)
        files = halves(tensors)
        shard(folder, change(files), index=index)
        if map_as is not None:
            path = folder / "model.safetensors.index.json"
            told = {tensor: file for file, part in files.items() for tensor in part}
            path.write_text(json.dumps(map_as(told)))

    def copied(folder, config, tensors, *, index):
        write_config(folder, config)
        rest = {k: x for k, x in tensors.items() if ".0." not in k and block not in k}
        first = {k: x for k, x in tensors.items() if ".0." in k}
        files = {f"model-0000{i}-of-00003.safetensors": part
                 for i, part in ((1, rest), (2, first), (3, first))}  # fmt: skip
        shard(folder, files, index=index)

    def twice(files):
        first, second = files.values()
        return dict(zip(files, (first | second, second), strict=True))

    def stray(folder, config, tensors):
        shards(folder, config, tensors)
        save(folder / "model-00001-of-00003.safetensors", {k: x + 1 for k, x in tensors.items()})

    yield Variant(f"{base}: a tensor in two shards", base, partial(shards, change=twice))
    yield Variant(f"{base}: another sharding beside the index", base, stray)
    yield Variant(f"{base}: no index", base, partial(shards, index=False), beyond=True)
    for index in (True, False):
        label = f"{base}: layer 1 is a copy of layer 0, index {index}"
        yield Variant(label, base, partial(copied, index=index), r"nothing fills .*of layer 1\b")
    wrong = {
        "has no tensor": lambda m: {"weight_map": m | {"h.9.x": m[name]}},
        "which is not there": lambda m: {"weight_map": m | {name: "model-9.safetensors"}},
        r"expected a \*.safetensors file": lambda m: {"weight_map": m | {name: "../x.safetensors"}},
        "expected a .*inside that folder": lambda m: {"weight_map": m | {name: "/x.safetensors"}},
        "inside that folder": lambda m: {"weight_map": m | {name: 3}},
        "no weight_map": lambda m: {"metadata": {}},
        "weight_map of": lambda m: {"weight_map": {}},
        "holds a list": lambda m: [m],
    }
    for refused, map_as in wrong.items():
        yield Variant(
            f"{base}: index, {refused}", base, partial(shards, map_as=map_as), refused
        )  # fmt: skip


def _other_files(base: str) -> Iterator[Variant]:
    """No file that says it is the model."""

    def only(folder, config, tensors, *, names):
        write_config(folder, config)
        for name in names:
            save(folder / name, tensors)

    both = [f"model-0000{i}-of-0000{n}.safetensors" for n in (2, 3) for i in range(1, n + 1)]
    for label, names in {
        "nothing": [],
        "a .bin": ["pytorch_model.bin"],
        "an adapter": ["adapter_model.safetensors"],
        "half precision": ["model.fp16.safetensors"],
        "two shardings": both,
        "others": ["rest.safetensors", "layer0.safetensors"],
    }.items():
        refused = f"no safetensors file of a whole model .*{names[0] if names else 'config.json'}"
        yield Variant(f"{base}: only {label}", base, partial(only, names=names), refused)
