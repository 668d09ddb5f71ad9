"""What reading costs: analytic FLOPs, `2mnk` a product, of the frozen base's forward pass."""

from ponderttt.models.config import DecoderConfig


def forward_flops(config: DecoderConfig, window: int) -> float:
    """FLOPs a token of one forward pass with head, at an attention window of `window` tokens.

    The two attention products count as computed: every query meets the whole window (a causal mask
    saves nothing in a dense product).
    """
    width, inner = config.width, config.heads * config.head_dim
    cached = config.kv_heads * config.head_dim
    attention = 2 * width * (2 * inner + 2 * cached) + 4 * window * inner
    mlp = 2 * width * config.hidden * (3 if config.family == "llama" else 2)
    return config.layers * (attention + mlp) + 2 * width * config.vocab_size
