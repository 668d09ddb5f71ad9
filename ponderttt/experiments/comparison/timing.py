"""What reading costs in seconds: at each K, and with each way of deciding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx

from ponderttt.evaluation.iterative_costs import policy_step_ratio, token_ledgers
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import spec_of
from ponderttt.experiments.comparison.training import Texts
from ponderttt.models.iterative import Allocate, IterativeTransformerTTT, given
from ponderttt.models.iterative_config import IterativeTransformerConfig
from ponderttt.training.language import Kind, allocator, graph_of

ROWS: dict[Kind, str] = {
    "mixture": "at random", "shared": "at random", "learned": "halting network",
    "expected": "halting network", "entropy": "by entropy", "loss": "by entropy",
    "perplexity": "by entropy", "gradient_norm": "by gradient norm",
}  # fmt: skip
"""Which row of the table tells the time of a method of each kind."""


def efficiency(
    config: ComparisonConfig, model: IterativeTransformerConfig, texts: Texts
) -> pd.DataFrame:
    """Microseconds and FLOPs a token of reading and scoring one batch; for both fast weights.

    Linear without a norm goes by the closed form, mlp by K masked steps. All ways are timed in
    turns. `policy_in_steps` and `lstm_in_steps`: what a decision of the halting network, and of the
    bidirectional LSTM that the seeds describe (it sees the future, and is in no comparison), costs
    in inner steps.
    """
    some = texts.test.tokens[: config.batch_size]
    even = jax.tree.map(lambda x: x[0], spec_of("random").method(1, len(model.ttt_layer_indices)))
    rows, ways = [], {}
    for fast_weight in ("linear", "mlp"):
        shape = dataclasses.replace(model, fast_weight=fast_weight)
        weights = nnx.state(IterativeTransformerTTT(shape), nnx.Param)
        allocates = {f"K{k}": (_bounded(shape, k), given(k)) for k in shape.step_options}
        for kind in ("mixture", "learned", "entropy", "gradient_norm"):
            allocate = allocator(kind, shape, even, jnp.zeros(len(shape.step_options) - 1))
            allocates[ROWS[kind]] = (shape, allocate)
        for name, (bounded, allocate) in allocates.items():
            ways[fast_weight, name] = seconds(_reader(bounded, allocate), weights, some)
            mean = float(name[1:]) if name[0] == "K" else float(np.mean(shape.step_options))
            ledgers = token_ledgers(shape, mean, decision=0.0)
            rows.append(
                {
                    "fast_weight": fast_weight,
                    "steps": name,
                    "mean_steps": mean,
                    "adapter_flops": float(ledgers.adapter),
                    "model_flops": float(ledgers.model),
                    "policy_in_steps": policy_step_ratio(shape),
                    "lstm_in_steps": policy_step_ratio(shape, lstm=True),
                }
            )
    times = interleaved(ways)
    table = pd.DataFrame(rows)
    taken = [times[way] for way in zip(table["fast_weight"], table["steps"], strict=True)]
    return table.assign(microseconds=1e6 * np.asarray(taken) / some.size)


def _bounded(shape: IterativeTransformerConfig, most: int) -> IterativeTransformerConfig:
    """The same with steps up to `most`: what is never taken is not paid for."""
    return dataclasses.replace(
        shape, max_steps=most, step_options=(most,), target_avg_steps=None, use_learned_policy=False
    )


def _reader(shape: IterativeTransformerConfig, allocate: Allocate):
    graph = graph_of(shape)

    @jax.jit
    def read(weights, tokens):
        model = nnx.merge(graph, weights)
        return model.loss(model.read(tokens, allocate, jax.random.key(0)).hidden, tokens)[0]

    return read
