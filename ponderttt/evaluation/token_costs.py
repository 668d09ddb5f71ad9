"""What a transformer with TTT layers costs: analytic FLOPs, `2mnk` a product, as in `flops`.

Letters: D model width, V vocabulary, F width of the mlp, H heads, d head width, m hidden width of
the mlp fast weights, K inner steps, A step options. All else (norms, softmax, gelu, the update's
multiply and subtract) is left out; with it, one token's plain step is about 1.3 times what stands
here. The ledgers count plain steps; `inner.factored` takes them with fewer.
"""

from typing import Literal, NamedTuple

import numpy as np

from ponderttt.errors import InputError
from ponderttt.evaluation.flops import policy_flops
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.types import ArrayLike

Form = Literal["stepped", "closed"]
"""K gradient steps one after another, or all at once: `inner.chunkwise`, whatever K is."""
FORMS = ("stepped", "closed")
CHUNK = 16
"""Tokens a chunk of the closed form, and a mini-batch of the reference layer."""


class LayerFlops(NamedTuple):
    """FLOPs a token of one TTT layer; `step` is one inner step, 0 where K costs nothing."""

    projections: float
    read_out: float
    step: float


class TokenLedgers(NamedTuple):
    """Costs a token, each array of the steps' shape; never mixed.

    `nominal` in inner steps of a TTT layer; in FLOPs `adapter`, what the fast weights add
    (projections, read-out and steps of all TTT layers), and `model`, everything with deciding.
    """

    nominal: np.ndarray
    adapter: np.ndarray
    model: np.ndarray


def ttt_layer_flops(config: IterativeTransformerConfig, form: Form = "stepped") -> LayerFlops:
    """FLOPs a token of one TTT layer: views and output `8 D^2`, and in each of its H heads

    | fast weights | read-out | a step |
    |---|---|---|
    | linear | `2 d^2` | `4 d^2`: `k W`, and the outer product with its gradient |
    | mlp | `4 d m` | `10 d m`: two products forward, one back, two outer products |
    | linear, closed | `6 d^2 + 12 C d + C^2 / 2 + 2 C` at C = 16 tokens a chunk | 0 |
    | reference linear | `6 d^2 + 4 C d` | 0: it takes one, in the dual form |
    | reference mlp, m = 4 d | `14 d m + 4 C (d + m)` | 0 |

    Steps count as taken; a compiled program pads them all to the largest K. Token by token, it does
    them with fewer (`inner.factored`): an mlp with `8 d m` to read and write and `6 d m` a step,
    linear fast weights with `6 d^2` and none, beside terms in `K (d + m)`. `closed` is an
    `InputError` but for linear fast weights without a norm, token by token.

    >>> ttt_layer_flops(IterativeTransformerConfig())
    LayerFlops(projections=2097152, read_out=131072, step=327680)
    """
    if form not in FORMS:
        raise InputError(f"unknown form {form!r}: expected {' or '.join(FORMS)}")
    width, heads, d = config.hidden_dim, config.num_heads, config.head_dim
    linear, m, c = config.fast_weight == "linear", config.fast_weight_hidden_dim, CHUNK
    if config.ttt_layer == "reference":
        dual = 6 * d**2 + 4 * c * d if linear else 56 * d**2 + 20 * c * d
        return LayerFlops(8 * width**2 + 2 * width * heads, heads * dual, 0)
    if form == "closed":
        if not linear or config.norm or config.mini_batch > 1:
            raise InputError(
                "the closed form is known for linear fast weights without a norm, token by token: "
                "use form='stepped'"
            )
        chunked = 6 * d**2 + 12 * c * d + c**2 // 2 + 2 * c
        return LayerFlops(8 * width**2, heads * chunked, 0)
    read, step = (2 * d**2, 4 * d**2) if linear else (4 * d * m, 10 * d * m)
    return LayerFlops(8 * width**2, heads * read, heads * step)


def halting_flops(config: IterativeTransformerConfig) -> float:
    """FLOPs a token of one halting network, `2 h (D + A)` with h units; each TTT layer has one.

    >>> halting_flops(IterativeTransformerConfig())
    16512
    """
    hidden, options = config.policy_hidden_dim, len(config.step_options)
    return policy_flops(config.hidden_dim, hidden=hidden, layers=1, actions=options)


def lstm_policy_flops(config: IterativeTransformerConfig) -> float:
    """FLOPs a token of the seeds' halting network, in each TTT layer: `36 D^2 + 2 D A`.

    One bidirectional LSTM layer, D units a direction (`2 * 2 * 4 D * 2 D`), then `2 D -> D -> A`.
    That is the network whose three copies have the 14.2 M parameters at D = 512 (ponderTTT 679d976,
    `halting_policy.py`). It reads later tokens: an ablation, never a method.

    >>> lstm_policy_flops(IterativeTransformerConfig())
    9441280
    """
    width = config.hidden_dim
    return 36 * width**2 + 2 * width * len(config.step_options)


def policy_step_ratio(config: IterativeTransformerConfig, *, lstm: bool = False) -> float:
    """What a decision at one layer costs, in inner steps of that layer: below 1, or it cannot pay.

    `lstm`: of the seeds' bidirectional network instead. Where K costs nothing: an `InputError`.

    >>> config = IterativeTransformerConfig()
    >>> round(policy_step_ratio(config), 3), round(policy_step_ratio(config, lstm=True), 1)
    (0.05, 28.8)
    """
    step = ttt_layer_flops(config).step
    if not step:
        raise InputError(
            "the reference TTT layer takes one step whatever is decided: there is no step to "
            "compare with"
        )
    return (lstm_policy_flops(config) if lstm else halting_flops(config)) / step


def readout_flops(config: IterativeTransformerConfig) -> float:
    """FLOPs a token of an early prediction, `2 D V`: what the heuristics that read it cost.

    >>> readout_flops(IterativeTransformerConfig())
    51463168
    """
    return 2 * config.hidden_dim * config.vocab_size


def block_flops(config: IterativeTransformerConfig, seq_len: int) -> tuple[float, float]:
    """FLOPs a token of all attention mixers and of all mlps: `8 D^2 + 4 T D` and `4 D F` each.

    Every query meets all T tokens, as in `flops.forward_flops`. `causal_attention` leaves out the
    keys after a block of 128 queries: beyond 128 tokens it computes `(T + 128) / 2 T` of `4 T D`.

    >>> block_flops(IterativeTransformerConfig(), 128)
    (7077888, 25165824)
    """
    width, ttt = config.hidden_dim, len(set(config.ttt_layer_indices))
    attention = 8 * width**2 + 4 * seq_len * width
    return (config.num_layers - ttt) * attention, config.num_layers * 4 * width * config.ffn_dim


def model_flops(
    config: IterativeTransformerConfig,
    seq_len: int,
    num_steps: float = 0,
    include_backward: bool = False,
    *,
    form: Form = "stepped",
) -> dict[str, float]:
    """`costs.compute_model_flops` of this model: `num_steps` is the mean over tokens and layers.

    The parts are `attention`, `mlp`, `projections`, `read_out`, `inner_steps`, `head` and
    `policy_network`, the last 0 unless the halting networks decide (`use_learned_policy`).

    >>> flops = model_flops(IterativeTransformerConfig(), 256, 4)
    >>> round(flops["per_token"] / 1e6, 2), round(flops["policy_network"] / 1e6, 2)
    (95.16, 12.68)
    """
    _check(config, seq_len, np.asarray(num_steps))
    layer, layers = ttt_layer_flops(config, form), len(set(config.ttt_layer_indices))
    attention, mlp = block_flops(config, seq_len)
    each = {
        "attention": attention,
        "mlp": mlp,
        "projections": layers * layer.projections,
        "read_out": layers * layer.read_out,
        "inner_steps": layers * num_steps * layer.step,
        "head": readout_flops(config),
        "policy_network": layers * halting_flops(config) if config.use_learned_policy else 0.0,
    }
    passes = 3.0 if include_backward else 1.0
    parts = {name: passes * seq_len * flops for name, flops in each.items()}
    total = sum(parts.values())
    return parts | {"total": total, "per_token": total / seq_len}


def token_ledgers(
    config: IterativeTransformerConfig,
    mean_steps: ArrayLike,
    *,
    seq_len: int | None = None,
    decision: float | None = None,
    form: Form = "stepped",
) -> TokenLedgers:
    """The analytic ledgers a token, at these mean steps (over tokens and TTT layers; any shape).

    Of reading texts of `seq_len` tokens (default: `max_length`), forward only. `decision` is what
    deciding costs a token in FLOPs, all layers together: by default the halting networks where they
    decide; give 0 for a fixed schedule, `readout_flops` for a heuristic that reads a prediction.

    >>> config = IterativeTransformerConfig()
    >>> ledgers = token_ledgers(config, [1.0, 4.0])
    >>> ledgers.nominal.tolist(), ((ledgers.adapter[1] - ledgers.adapter[0]) / 1e6).round(2).item()
    ([1.0, 4.0], 2.95)
    """
    steps, length = np.asarray(mean_steps, float), config.max_length if seq_len is None else seq_len
    _check(config, length, steps)
    fixed = {name: flops / length for name, flops in model_flops(config, length, form=form).items()}
    if decision is None:
        decision = fixed["policy_network"]
    layers = len(set(config.ttt_layer_indices))
    added = fixed["projections"] + fixed["read_out"]
    adapter = added + layers * ttt_layer_flops(config, form).step * steps
    base = fixed["attention"] + fixed["mlp"] + fixed["head"]
    return TokenLedgers(steps, adapter, base + adapter + decision)


def _check(config: IterativeTransformerConfig, seq_len: int, steps: np.ndarray) -> None:
    if not 1 <= seq_len <= config.max_length:
        raise InputError(
            f"seq_len is {seq_len}: expected 1 to max_length = {config.max_length} tokens"
        )
    if seq_len % config.mini_batch:
        raise InputError(
            f"a text of {seq_len} tokens is no number of mini-batches of {config.mini_batch}: "
            "expected a multiple"
        )
    if not np.all((steps >= 0) & (steps <= config.max_steps)):
        raise InputError(
            f"num_steps is {float(steps.min() if steps.min() < 0 else steps.max()):g}: expected 0 "
            f"to max_steps = {config.max_steps}"
        )
