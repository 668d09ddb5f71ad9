"""Makes matrix.npz of tests/models/decoder/test_matrix.py. Needs torch and transformers:

python -m venv /tmp/torchenv && /tmp/torchenv/bin/pip install torch==2.13.0 transformers
/tmp/torchenv/bin/python tests/golden/make_matrix_golden.py

The base models (weights are whole numbers over 64), their logits, and for every variant how far
the logits of transformers are from its base's: NaN where it does not load or run.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, Qwen2Config

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from support.checkpoint_variants import variants  # noqa: E402 - the path above
from support.checkpoints import HEAD, family_of  # noqa: E402

VOCABULARY, LENGTH = 37, 24
GPT2 = dict(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=32,
            bos_token_id=0, eos_token_id=0)  # fmt: skip
LLAMA = dict(
    vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=4, max_position_embeddings=32,
)  # fmt: skip
NEOX = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=2, max_position_embeddings=32,
)  # fmt: skip
BASES = {
    "gpt2-tied": GPT2Config(**GPT2),
    "gpt2-untied": GPT2Config(
        **GPT2, tie_word_embeddings=False, n_inner=24, activation_function="gelu",
        layer_norm_epsilon=1e-3,
    ),
    "llama-tied": LlamaConfig(**LLAMA, tie_word_embeddings=True, rope_theta=500.0),
    "llama-untied": LlamaConfig(
        **LLAMA, num_key_value_heads=2, rms_norm_eps=1e-2, rope_theta=50_000.0
    ),
    "llama-wide": LlamaConfig(**LLAMA, num_key_value_heads=1, head_dim=6, rope_theta=2_000.0),
    "llama3-scaled": LlamaConfig(
        **LLAMA, num_key_value_heads=2, head_dim=12, attention_bias=True, mlp_bias=True,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 200.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
        },
    ),
    "qwen2-tied": Qwen2Config(
        **LLAMA, num_key_value_heads=2, tie_word_embeddings=True, rope_theta=500.0
    ),
    "neox-parallel": GPTNeoXConfig(**NEOX, rotary_pct=0.25),
    "neox-sequential": GPTNeoXConfig(
        **NEOX, rotary_pct=0.25, use_parallel_residual=False, rotary_emb_base=500,
        tie_word_embeddings=True,
    ),
    "neox-parallel-whole": GPTNeoXConfig(
        **NEOX, rotary_pct=1.0, rotary_emb_base=2_000, hidden_act="gelu_new", attention_bias=False,
    ),
    "neox-sequential-whole": GPTNeoXConfig(
        **NEOX, rotary_pct=1.0, use_parallel_residual=False, layer_norm_eps=1e-3,
    ),
}  # fmt: skip


def made(config, head):
    """A model whose weights are multiples of 1/64, and its tensors by their names on the hub."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            centre = torch.round(parameter.mean())  # norms around 1
            noise = torch.clip(torch.randn_like(parameter) * 20, -60, 60)
            parameter.copy_(centre + torch.round(noise) / 64)
    tensors = {name: x.numpy() for name, x in model.state_dict().items()}
    output = tensors.pop("lm_head.weight")
    if not config.tie_word_embeddings:
        tensors[head] = output
    return model, tensors


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.float().numpy()


def distance(variant, config, tensors, tokens, logits) -> float:
    with tempfile.TemporaryDirectory() as folder:
        variant.write(Path(folder), config, tensors)
        if "000000000" in Path(folder, "config.json").read_text():
            return float("nan")  # transformers would allocate that much
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            found = logits_of(model, tokens)
        except Exception:
            return float("nan")
    if found.shape != logits.shape:
        return float("inf")
    return float(np.abs(found - logits).max() / np.abs(logits).max())


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (1, LENGTH))
    arrays, bases = {"tokens": tokens.astype(np.int32)}, {}
    for base, config in BASES.items():
        model, tensors = made(config, HEAD[family_of(base)])
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            raw = json.loads(Path(folder, "config.json").read_text())
        bases[base] = raw, tensors, logits_of(model, tokens)
        arrays[f"{base}/config"] = np.array(json.dumps(raw))
        arrays[f"{base}/logits"] = bases[base][2]
        for name, x in tensors.items():
            arrays[f"{base}/tensor/{name}"] = np.round(64 * x).astype(np.int16)
    found = {}
    for variant in variants({base: raw for base, (raw, _, _) in bases.items()}):
        assert variant.label not in found, variant.label
        config, tensors, logits = bases[variant.base]
        found[variant.label] = distance(variant, config, tensors, tokens, logits)
    arrays["labels"] = np.array(list(found))
    arrays["distances"] = np.array(list(found.values()), np.float32)
    arrays["version"] = np.array(transformers.__version__)
    np.savez_compressed(HERE / "matrix.npz", **arrays)


if __name__ == "__main__":
    main()
