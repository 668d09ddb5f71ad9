"""Run by the peer's interpreter: transformers on torch, one timed forward with loss a line.

Arguments: model (smollm2-135m or gpt2), tokens. Imports nothing of ponderttt.
"""

import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM


def build(name: str) -> torch.nn.Module:
    """Random weights: a forward costs the same whatever they are."""
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config())
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
        )
    )


def serve(name: str, length: int) -> None:
    """Seconds of one forward with loss, printed for each line read."""
    model = build(name).eval()
    tokens = torch.randint(0, 49152, (1, length))
    for _ in sys.stdin:
        start = time.perf_counter()
        with torch.inference_mode():
            model(tokens, labels=tokens).loss.item()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
