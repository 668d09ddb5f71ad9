"""GPT-2: layer norm, learned positions, biases."""

from ponderttt.models.decoder.checkpoint import Rule
from ponderttt.models.decoder.config import Activation, DecoderConfig
from ponderttt.models.decoder.families.family import Family, require


def config(
    *,
    vocab_size: int = 50257,
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    hidden: int | None = None,
    max_positions: int = 1024,
    norm_eps: float = 1e-5,
    activation: Activation = "gelu_tanh",
    tied_head: bool = True,
) -> DecoderConfig:
    """A GPT-2 of these sizes; the defaults are the 124M model."""
    return DecoderConfig(
        family="gpt2",
        vocab_size=vocab_size,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        hidden=hidden or 4 * width,
        max_positions=max_positions,
        norm="layer",
        norm_eps=norm_eps,
        activation=activation,
        bias=True,
        positions="learned",
        tied_head=tied_head,
    )


def gpt2() -> DecoderConfig:
    """GPT-2 124M."""
    return config()


def gpt2_medium() -> DecoderConfig:
    """GPT-2 355M."""
    return config(width=1024, layers=24, heads=16)


def gpt2_large() -> DecoderConfig:
    """GPT-2 774M."""
    return config(width=1280, layers=36, heads=20)


def gpt2_xl() -> DecoderConfig:
    """GPT-2 1.5B."""
    return config(width=1600, layers=48, heads=25)


def tiny() -> DecoderConfig:
    """Two layers over the 257 symbols of the byte tokenizer, for smoke runs and tests."""
    return config(vocab_size=257, width=32, layers=2, heads=4, max_positions=2048)


def read_config(raw: dict) -> DecoderConfig:
    """From a `config.json`."""
    activations: dict[str, Activation] = {
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu": "gelu",
    }
    activation = raw.get("activation_function", "gelu_new")
    require(activation in activations, f"activation_function {activation!r} is not supported")
    require(raw.get("scale_attn_weights", True), "scale_attn_weights must be true")
    require(not raw.get("scale_attn_by_inverse_layer_idx"), "layer-scaled attention is unknown")
    return config(
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


# Weights are stored [in, out]; query, key and value side by side.
_ROOT, _BLOCK = r"(?:transformer\.)?", r"(?:transformer\.)?h\.(\d+)\."
RULES = [
    Rule(_ROOT + r"wte\.weight", "embedding"),
    Rule(_ROOT + r"wpe\.weight", "positions"),
    Rule(r"lm_head\.weight", "output"),
    Rule(_ROOT + r"ln_f\.weight", "final.norm_scale"),
    Rule(_ROOT + r"ln_f\.bias", "final.norm_bias"),
    Rule(_BLOCK + r"ln_1\.weight", "blocks.attention_norm_scale"),
    Rule(_BLOCK + r"ln_1\.bias", "blocks.attention_norm_bias"),
    Rule(_BLOCK + r"ln_2\.weight", "blocks.mlp_norm_scale"),
    Rule(_BLOCK + r"ln_2\.bias", "blocks.mlp_norm_bias"),
    Rule(_BLOCK + r"attn\.c_attn\.weight", "blocks.qkv"),
    Rule(_BLOCK + r"attn\.c_attn\.bias", "blocks.qkv_bias"),
    Rule(_BLOCK + r"attn\.c_proj\.weight", "blocks.attention_out"),
    Rule(_BLOCK + r"attn\.c_proj\.bias", "blocks.attention_out_bias"),
    Rule(_BLOCK + r"mlp\.c_fc\.weight", "blocks.mlp_in"),
    Rule(_BLOCK + r"mlp\.c_fc\.bias", "blocks.mlp_in_bias"),
    Rule(_BLOCK + r"mlp\.c_proj\.weight", "blocks.mlp_out"),
    Rule(_BLOCK + r"mlp\.c_proj\.bias", "blocks.mlp_out_bias"),
    Rule(_BLOCK + r"attn\.(?:bias|masked_bias)"),
]

FAMILY = Family(
    read_config=read_config,
    rules=RULES,
    random={"tiny-gpt2": tiny()},
    hub={
        name: f"openai-community/{name}"
        for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
    },
    tokenizer="gpt2",
)
