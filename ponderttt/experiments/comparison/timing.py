"""What reading costs in seconds: at each K, and with each way of deciding."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import pandas as pd
from flax import nnx

from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.evaluation.token_costs import policy_step_ratio, token_ledgers
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import spec_of
from ponderttt.experiments.comparison.training import Texts
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.models.iterative.model import Allocate, IterativeTransformerTTT, given
from ponderttt.training.language import Kind, allocator, graph_of

ROWS: dict[Kind, str] = {
    "mixture": "at random", "learned": "halting network", "expected": "halting network",
    "entropy": "by entropy", "loss": "by entropy", "perplexity": "by entropy",
    "gradient_norm": "by gradient norm",
}  # fmt: skip
"""Which row of the table tells the time of a method of each kind."""


def efficiency(
    config: ComparisonConfig, model: IterativeTransformerConfig, texts: Texts
) -> pd.DataFrame:
    """Microseconds and FLOPs a token of reading and scoring one batch, all timed in turns.

    Each K for both fast weights (linear without a norm goes by the closed form, mlp by K masked
    steps), and each way of deciding for those of the comparison. `policy_in_steps` and
    `lstm_in_steps`: what a decision of the halting network, and of the bidirectional LSTM that the
    seeds describe (it sees the future, and is in no comparison), costs in inner steps.
    """
    some = texts.test.tokens[: config.batch_size]
    even = jax.tree.map(lambda x: x[0], spec_of("random").method(1, len(model.ttt_layer_indices)))
    rows: list[dict[str, Any]] = []
    readings: list[Callable[[], float]] = []

    def add(shape: IterativeTransformerConfig, name: str, mean: float, reading: Callable) -> None:
        ledgers = token_ledgers(shape, mean, decision=0.0)
        readings.append(reading)
        rows.append(
            {
                "fast_weight": shape.fast_weight,
                "steps": name,
                "mean_steps": mean,
                "adapter_flops": float(ledgers.adapter),
                "model_flops": float(ledgers.model),
                "policy_in_steps": policy_step_ratio(shape),
                "lstm_in_steps": policy_step_ratio(shape, lstm=True),
            }
        )

    for fast_weight in ("linear", "mlp"):
        shape = dataclasses.replace(model, fast_weight=fast_weight)
        weights, anything = _weights(shape), _reader(shape, given)
        for k in shape.step_options:
            # mlp fast weights pay for the most steps that there are, and linear ones for none.
            read = anything if fast_weight == "linear" else _reader(_bounded(shape, k), given)
            add(shape, f"K{k}", float(k), seconds(read, weights, some, np.int32(k)))
        if fast_weight != model.fast_weight:
            continue
        for kind in ("mixture", "learned", "entropy", "gradient_norm"):
            allocate = partial(allocator, kind, shape, even)
            thresholds = np.zeros(len(shape.step_options) - 1, np.float32)
            reading = seconds(_reader(shape, allocate), weights, some, thresholds)
            add(shape, ROWS[kind], float(np.mean(shape.step_options)), reading)
    taken = np.asarray(list(interleaved(dict(enumerate(readings))).values()))
    return pd.DataFrame(rows).assign(microseconds=1e6 * taken / some.size)


def _bounded(shape: IterativeTransformerConfig, most: int) -> IterativeTransformerConfig:
    """The same with steps up to `most`: what is never taken is not paid for."""
    return dataclasses.replace(
        shape, max_steps=most, step_options=(most,), target_avg_steps=None, use_learned_policy=False
    )


def _weights(shape: IterativeTransformerConfig) -> nnx.State:
    """Small numbers: what is read takes as long with any."""
    rng = np.random.default_rng(0)
    shapes = nnx.eval_shape(lambda: nnx.state(IterativeTransformerTTT(shape), nnx.Param))
    return jax.tree.map(lambda x: rng.normal(0, 0.02, x.shape).astype(x.dtype), shapes)


def _reader(shape: IterativeTransformerConfig, allocate: Callable[[Any], Allocate]) -> Callable:
    """Reads and scores a batch; `allocate` decides by what is given beside it."""
    graph = graph_of(shape)

    @jax.jit
    def read(weights, tokens, known):
        model = nnx.merge(graph, weights)
        reading = model.read(tokens, allocate(known), jax.random.key(0))
        return model.loss(reading.hidden, tokens)[0]

    return read
