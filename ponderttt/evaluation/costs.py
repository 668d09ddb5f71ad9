"""What reading costs, in ledgers that are never mixed: nominal, and FLOPs by `flops`.

Three of the four ledgers are here; the fourth, seconds, is measured.
"""

from typing import NamedTuple

import numpy as np

from ponderttt.errors import InputError
from ponderttt.evaluation.flops import AdapterFlops, adapter_flops, forward_flops, head_flops
from ponderttt.evaluation.token_costs import model_flops
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, ArrayLike


class Ledgers(NamedTuple):
    """Costs of units, each array of the steps' shape.

    `nominal` in forward passes, by the action table; `adapter` and `model` in FLOPs a unit: what
    the fast weights add, and everything (base, fast weights, policy and features).
    """

    nominal: np.ndarray
    adapter: np.ndarray
    model: np.ndarray


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
    with TTT layers has parts of its own (`token_costs.model_flops`), and says itself what a
    unit, its fast weights and a decision are: the last three arguments are then refused.

    >>> from ponderttt.models.decoder.families import llama
    >>> flops = compute_model_flops(llama.tiny(), seq_len=256, num_steps=4)
    >>> round(flops["adapter"] / 1e6, 2), round(flops["total"] / 1e6, 2)
    (38.4, 68.83)
    """
    if isinstance(config, IterativeTransformerConfig):
        if unit is not None or adapter is not None or decision:
            raise InputError(
                "unit, adapter and decision belong to a frozen base: a transformer with TTT layers "
                "takes them from its config (token_costs.token_ledgers has decision=)"
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
