"""Makes the golden checkpoints and logits of tests/test_decoder.py. Needs torch and transformers:

python -m venv /tmp/torchenv && /tmp/torchenv/bin/pip install torch==2.13.0 transformers
/tmp/torchenv/bin/python tests/golden/make_decoder_golden.py
"""

from pathlib import Path

import numpy as np
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

HERE = Path(__file__).resolve().parent
VOCABULARY, LENGTH = 61, 140  # longer than one block of queries

MODELS = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=2,
            max_position_embeddings=160,
            rms_norm_eps=1e-5,
            rope_theta=500.0,
            tie_word_embeddings=False,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=24,
            n_layer=2,
            n_head=4,
            n_positions=160,
            bos_token_id=0,
            eos_token_id=0,
        )
    ),
    "neox": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=160,
        )
    ),
}

for name, build in MODELS.items():
    torch.manual_seed(0)
    model = build().eval()
    for parameter in model.parameters():  # biases and norm scales away from 0 and 1
        torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.2)
    tokens = torch.randint(0, VOCABULARY, (1, LENGTH))
    with torch.no_grad():
        output = model(tokens)
    model.save_pretrained(HERE / name)
    (HERE / name / "generation_config.json").unlink(missing_ok=True)
    np.savez_compressed(
        HERE / f"{name}.npz",
        tokens=tokens.numpy().astype(np.int32),
        logits=output.logits.numpy(),
    )
