"""Analytic FLOPs of a frozen base and what is added to it: `2mnk` a product, all else left out.

Letters: D model width, V vocabulary, d head width, r rank, K inner steps. Products count as
computed.
"""

from typing import NamedTuple

import numpy as np

from ponderttt.models.adapters.ttt_layer import TTTConfig
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.parameters import projection_shapes
from ponderttt.models.decoder.window import Window
from ponderttt.models.windowed_attention import BLOCK
from ponderttt.types import Documents


class AdapterFlops(NamedTuple):
    """FLOPs a token: of reading through the fast weights, and of one inner step."""

    read: float
    step: float


def keys_met(documents: Documents, window: Window) -> float:
    """Keys that a query meets, on average over the units of `documents` that hold anything.

    As `windowed_attention` computes them: its whole unit, and the blocks of what was read before it
    that hold something. What the functions here take for a window, where texts are shorter.

    >>> tokens, mask = np.zeros((1, 2, 256), int), np.ones((1, 2, 256), bool)
    >>> keys_met(Documents(tokens, mask, np.asarray(0)), Window(2048))
    512.0
    """
    unit = documents.tokens.shape[-1]
    block = min(BLOCK, window.tokens)
    seen = np.minimum(window.places(documents) * unit, window.tokens)
    blocks = np.minimum(-(-seen // block), -(-window.tokens // block))
    return float(np.mean(unit + block * blocks[np.asarray(documents.mask).any(axis=-1)]))


def forward_flops(config: DecoderConfig, window: float) -> float:
    """FLOPs a token of one forward pass with head, where a query meets `window` keys (`keys_met`).

    The two attention products count as computed: every query meets the whole window (a causal mask
    saves nothing in a dense product).

    >>> from ponderttt.models.decoder.families import gpt2
    >>> round(forward_flops(gpt2.gpt2(), 512) / 1e6, 1)
    265.9
    """
    return config.layers * block_flops(config, window) + head_flops(config)


def block_flops(config: DecoderConfig, window: float) -> float:
    """FLOPs a token of one block: its projections, its MLP, and attention over `window` tokens.

    >>> from ponderttt.models.decoder.families import llama
    >>> block_flops(llama.tiny(), 64) - block_flops(llama.tiny(), 32)
    4096
    """
    shapes = projection_shapes(config)
    products = [shapes[name] for name in ("qkv", "attention_out", "mlp_in", "mlp_out")]
    projections = sum(2 * rows * columns for rows, columns in products)
    return projections + attention_flops(config, window)


def attention_flops(config: DecoderConfig, window: float) -> float:
    """FLOPs a token of one block's two attention products over `window` tokens.

    >>> from ponderttt.models.decoder.families import llama
    >>> attention_flops(llama.tiny(), 32)
    4096
    """
    return 4 * window * config.heads * config.head_dim


def head_flops(config: DecoderConfig) -> float:
    """FLOPs a token of the head's product, `2 D V`.

    >>> from ponderttt.models.decoder.families import llama
    >>> head_flops(llama.tiny())
    16448
    """
    return 2 * config.width * config.vocab_size


def score_flops(config: DecoderConfig, *, rank: int | None = None) -> float:
    """FLOPs a token of scoring a cached hidden state: the map on it, then the head.

    `2 D^2 + 2 D V`; a map of rank r takes `4 D r` for the `2 D^2`.

    >>> from ponderttt.models.decoder.families import llama
    >>> score_flops(llama.tiny()) - head_flops(llama.tiny())
    2048
    """
    return adapter_flops(config, rank=rank).read + head_flops(config)


def adapter_step_flops(config: DecoderConfig, *, rank: int | None = None) -> float:
    """FLOPs a token of one step of the next-token additive map on the last hidden state.

    `4 D V + 4 D^2`: the head's loss and gradient in one pass (two products), the map forward and
    the outer product of its gradient. With rank r `10 D r` for the `4 D^2`: two products forward,
    three back.

    >>> from ponderttt.models.decoder.families import llama
    >>> adapter_step_flops(llama.tiny())
    36992
    """
    width = config.width
    return 2 * head_flops(config) + (4 * width**2 if rank is None else 10 * width * rank)


def adapter_flops(config: DecoderConfig, *, rank: int | None = None) -> AdapterFlops:
    """What `NextToken(suffix_blocks=0)` costs on this base.

    >>> from ponderttt.models.decoder.families import llama
    >>> adapter_flops(llama.tiny(), rank=4)
    AdapterFlops(read=512, step=34176)
    """
    width = config.width
    read = 2 * width**2 if rank is None else 4 * width * rank
    return AdapterFlops(read, adapter_step_flops(config, rank=rank))


def suffix_flops(
    config: DecoderConfig,
    window: float,
    blocks: int,
    *,
    unit: int,
    targets: tuple[str, ...] = ("mlp_out",),
    rank: int | None = None,
) -> AdapterFlops:
    """What `NextToken(suffix_blocks=blocks)` costs on this base, over a window of `window`.

    `read` is the additions' products alone: the blocks themselves are the base's. `step` is the
    backward of a unit of `unit` tokens whose scoring kept its forward, as `rollout` does it: the
    head's gradient, and in each block one product back for each of its projections and two for
    each of an addition's. Of attention the scores again, and back to the weights and the queries;
    to keys and values within the unit alone, for the past is constant. A step that reads the unit
    again, as the second of a unit does, costs `again_flops` and `read` more.

    >>> from ponderttt.models.decoder.families import llama
    >>> config = llama.tiny()
    >>> suffix_flops(config, 32, 1, unit=8).read == 2 * config.hidden * config.width
    True
    """
    added = 0
    for name in targets:
        rows, columns = projection_shapes(config)[name]
        added += 2 * rows * columns if rank is None else 2 * rank * (rows + columns)
    attention = attention_flops(config, window)
    projections = block_flops(config, window) - attention
    back = projections + 1.5 * attention + attention_flops(config, unit) + 2 * added
    return AdapterFlops(blocks * added, head_flops(config) + blocks * back)


def again_flops(config: DecoderConfig, window: float, blocks: int) -> float:
    """FLOPs a token of reading a unit again through the last blocks and the head.

    >>> from ponderttt.models.decoder.families import llama
    >>> config = llama.tiny()
    >>> again_flops(config, 32, 1) == block_flops(config, 32) + head_flops(config)
    True
    """
    return blocks * block_flops(config, window) + head_flops(config)


def orthogonalize_flops(rows: int, columns: int, iterations: int) -> float:
    """FLOPs of `orthogonalize` on one matrix, all its iterations.

    >>> orthogonalize_flops(2, 3, iterations=1)
    64.0
    """
    small, large = sorted((rows, columns))
    return iterations * float(4 * small**2 * large + 2 * small**3)


def ttt_linear_flops(head_dim: int, steps: float) -> float:
    """FLOPs a token and head of K primal steps of TTT-Linear and one read-out: `4 K d^2 + 2 d^2`.

    A step is `k W` and the outer product with its gradient.

    >>> ttt_linear_flops(64, steps=2)
    40960
    """
    return (4 * steps + 2) * head_dim**2


def layer_flops(config: TTTConfig) -> AdapterFlops:
    """What a `TTTLayer` costs: `read` holds the projections of q, k, v and the output, `8 D^2`.

    An mlp of hidden width m takes `4 d m` to read and `10 d m` a step, a token and head.

    >>> layer_flops(TTTConfig(hidden_dim=128))
    AdapterFlops(read=147456, step=32768)
    """
    d, hidden = config.head_dim, config.fast_weight_hidden_dim
    if config.fast_weight == "linear":
        read = ttt_linear_flops(d, 0)
        step = ttt_linear_flops(d, 1) - read
    else:
        read, step = 4 * d * hidden, 10 * d * hidden
    return AdapterFlops(8 * config.hidden_dim**2 + config.heads * read, config.heads * step)


def policy_flops(features: int, hidden: int, layers: int, actions: int) -> float:
    """FLOPs of one decision of a network with `layers` hidden layers, all of width `hidden`.

    Of the actor alone: critics with trunks of their own do not run when it acts.

    >>> policy_flops(32, hidden=64, layers=2, actions=4)
    12800
    """
    if layers == 0:
        return 2 * features * actions
    return 2 * hidden * (features + (layers - 1) * hidden + actions)
