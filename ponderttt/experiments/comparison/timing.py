"""What a decision costs in seconds: the same model with all tokens at one K, and at mixed ones."""

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import pandas as pd
from flax import nnx

from ponderttt.evaluation.iterative_costs import policy_step_ratio, token_ledgers
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.training import Texts
from ponderttt.models.iterative import IterativeTransformerTTT, given
from ponderttt.models.iterative_config import IterativeTransformerConfig
from ponderttt.training.language import graph_of

REPEATS = 5


def efficiency(
    config: ComparisonConfig, model: IterativeTransformerConfig, texts: Texts
) -> pd.DataFrame:
    """Seconds and FLOPs a token of reading at each K, for both forms of the fast weights.

    Linear without a norm goes by the closed form, mlp by K masked steps; `mixed` gives every token
    a K of its own. Median of repeats, each over one batch. `policy_in_steps` and `lstm_in_steps`:
    what a decision of the halting network, and of the bidirectional LSTM that the seeds describe
    (it sees the future, and is in no comparison), costs in inner steps.
    """
    some = texts.test.inputs[: config.batch_size]
    mixed = np.random.default_rng(0).choice(model.step_options, size=some.shape)
    rows = []
    for fast_weight in ("linear", "mlp"):
        shape = dataclasses.replace(model, fast_weight=fast_weight)
        weights = nnx.state(IterativeTransformerTTT(shape), nnx.Param)
        uniform = {f"K{k}": np.full(some.shape, k) for k in model.step_options}
        for name, steps in (uniform | {"mixed": mixed}).items():
            read = _reader(_bounded(shape, int(steps.max())))
            ledgers = token_ledgers(shape, float(steps.mean()), decision=0.0)
            rows.append(
                {
                    "fast_weight": fast_weight,
                    "steps": name,
                    "mean_steps": float(steps.mean()),
                    "microseconds": 1e6 * _median(read, weights, some, steps) / some.size,
                    "adapter_flops": float(ledgers.adapter),
                    "model_flops": float(ledgers.model),
                    "policy_in_steps": policy_step_ratio(shape),
                    "lstm_in_steps": policy_step_ratio(shape, lstm=True),
                }
            )
    return pd.DataFrame(rows)


def _bounded(shape: IterativeTransformerConfig, most: int) -> IterativeTransformerConfig:
    """The same with options up to `most`: what is never taken is not paid for."""
    options = tuple(k for k in shape.step_options if k <= most)
    return dataclasses.replace(
        shape, max_steps=most, step_options=options, target_avg_steps=None, use_learned_policy=False
    )


def _reader(shape: IterativeTransformerConfig):
    graph = graph_of(shape)

    @jax.jit
    def read(weights, inputs, steps):
        model = nnx.merge(graph, weights)
        return model.read(inputs, given(steps), jax.random.key(0)).hidden

    return read


def _median(run: Callable, *arguments) -> float:
    jax.block_until_ready(run(*arguments))  # compiles
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
