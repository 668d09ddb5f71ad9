"""What reading costs: analytic FLOPs, `2mnk` a product, as computed; all else is left out.

Letters: D model width, V vocabulary, d head width, r rank, K inner steps. Three of the four ledgers
are here, never mixed; the fourth, seconds, is measured.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ponderttt.errors import InputError
from ponderttt.models.adapters.ttt_layer import TTTConfig
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.types import CHUNK_ACTIONS, ActionSpace


class AdapterFlops(NamedTuple):
    """FLOPs a token: of reading through the fast weights, and of one inner step."""

    read: float
    step: float


class Ledgers(NamedTuple):
    """Costs of units, each array of the steps' shape.

    `nominal` in forward passes, by the action table; `adapter` and `model` in FLOPs a unit: what
    the fast weights add, and everything (base, fast weights, policy and features).
    """

    nominal: np.ndarray
    adapter: np.ndarray
    model: np.ndarray


def forward_flops(config: DecoderConfig, window: int) -> float:
    """FLOPs a token of one forward pass with head, at an attention window of `window` tokens.

    The two attention products count as computed: every query meets the whole window (a causal mask
    saves nothing in a dense product).

    >>> from ponderttt.models.decoder.families import gpt2
    >>> round(forward_flops(gpt2.gpt2(), 512) / 1e6, 1)
    265.9
    """
    width, inner = config.width, config.heads * config.head_dim
    cached = config.kv_heads * config.head_dim
    attention = 2 * width * (2 * inner + 2 * cached) + 4 * window * inner
    mlp = 2 * width * config.hidden * (3 if config.family == "llama" else 2)
    return config.layers * (attention + mlp) + head_flops(config)


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


def ledgers(
    steps: ArrayLike,
    *,
    config: DecoderConfig,
    unit: int,
    window: int | None = None,
    adapter: AdapterFlops | None = None,
    actions: ActionSpace = CHUNK_ACTIONS,
    decision: float = 0.0,
    mask: ArrayLike | None = None,
) -> Ledgers:
    """The three analytic ledgers of the units [..., N] on which `steps` were taken.

    `unit` tokens each; `window` is the base's attention window (default: one unit); `adapter`
    defaults to `adapter_flops(config)`; `decision` is what deciding costs a unit, policy and
    features together. A unit that `mask` [..., N] leaves out costs nothing. Steps that no action
    takes are an `InputError`.

    >>> from ponderttt.models.decoder.families import llama
    >>> ledgers([0, 4, 0], config=llama.tiny(), unit=8).nominal.tolist()
    [1.0, 12.0, 1.0]
    """
    taken = np.asarray(steps)
    unknown = sorted(set(np.unique(taken).tolist()) - set(actions.steps))
    if unknown:
        raise InputError(
            f"no action takes {unknown[0]} steps: expected one of "
            f"{', '.join(map(str, actions.steps))}; give the action space that was used"
        )
    cost_of = dict(zip(actions.steps, actions.costs, strict=True))
    nominal = np.vectorize(cost_of.__getitem__, otypes=[float])(taken)
    adapter = adapter_flops(config) if adapter is None else adapter
    added = unit * (adapter.read + taken * float(adapter.step))
    model = unit * forward_flops(config, window or unit) + added + decision
    real = np.ones(taken.shape, bool) if mask is None else np.asarray(mask, bool)
    if real.shape != taken.shape:
        raise InputError(f"mask has shape {real.shape}: expected that of steps, {taken.shape}")
    return Ledgers(*(np.where(real, values, 0.0) for values in (nominal, added, model)))


def compute_flops(
    steps: ArrayLike,
    *,
    config: DecoderConfig,
    unit: int,
    window: int | None = None,
    adapter: AdapterFlops | None = None,
    actions: ActionSpace = CHUNK_ACTIONS,
    decision: float = 0.0,
    mask: ArrayLike | None = None,
) -> dict[str, float]:
    """Sums of `ledgers` over all units (same arguments), and model FLOPs `per_token`.

    >>> from ponderttt.models.decoder.families import llama
    >>> flops = compute_flops([0, 1, 0, 1], config=llama.tiny(), unit=8)
    >>> flops["nominal"], flops["adapter"], flops["per_token"]
    (8.0, 657408.0, 75904.0)
    """
    sums = ledgers(
        steps, config=config, unit=unit, window=window, adapter=adapter, actions=actions,
        decision=decision, mask=mask,
    )  # fmt: skip
    units = np.size(steps) if mask is None else np.count_nonzero(mask)
    if not units:
        raise InputError("there is no unit to count: expected steps of at least one")
    totals = {name: float(values.sum()) for name, values in sums._asdict().items()}
    return totals | {"per_token": totals["model"] / (units * unit)}


def compute_model_flops(
    config: DecoderConfig | IterativeTransformerConfig,
    seq_len: int,
    num_steps: float = 0,
    include_backward: bool = False,
    *,
    unit: int | None = None,
    adapter: AdapterFlops | None = None,
    decision: float = 0.0,
) -> dict[str, float]:
    """FLOPs of reading `seq_len` tokens (one window) with `num_steps` inner steps on each unit.

    `total` is the sum of `blocks`, `head`, `adapter` and `policy_network` (`decision` FLOPs for
    each `unit`, by default one); `per_token` is `total / seq_len`. `include_backward` triples all
    of them: an outer training step does two products back for each one forward. A transformer
    with TTT layers has parts of its own (`iterative_costs.model_flops`), and says itself what a
    unit, its fast weights and a decision are: the last three arguments are then refused.

    >>> from ponderttt.models.decoder.families import llama
    >>> flops = compute_model_flops(llama.tiny(), seq_len=256, num_steps=4)
    >>> round(flops["adapter"] / 1e6, 2), round(flops["total"] / 1e6, 2)
    (38.4, 68.83)
    """
    if isinstance(config, IterativeTransformerConfig):
        from ponderttt.evaluation.token_costs import model_flops  # it builds on this module

        if unit is not None or adapter is not None or decision:
            raise InputError(
                "unit, adapter and decision belong to a frozen base: a transformer with TTT layers "
                "takes them from its config (iterative_costs.token_ledgers has decision=)"
            )
        return model_flops(config, seq_len, num_steps, include_backward)
    unit = seq_len if unit is None else unit
    if seq_len < 1 or unit < 1 or seq_len % unit:
        raise InputError(f"a unit of {unit} tokens does not divide {seq_len} tokens")
    if num_steps < 0:
        raise InputError(f"num_steps is {num_steps}: expected 0 or more")
    adapter = adapter_flops(config) if adapter is None else adapter
    passes = 3.0 if include_backward else 1.0
    head = head_flops(config)
    parts = {
        "blocks": passes * seq_len * (forward_flops(config, seq_len) - head),
        "head": passes * seq_len * head,
        "adapter": passes * seq_len * (adapter.read + num_steps * adapter.step),
        "policy_network": passes * (seq_len // unit) * decision,
    }
    total = sum(parts.values())
    return parts | {"total": total, "per_token": total / seq_len}
