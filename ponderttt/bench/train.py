"""Training a transformer with TTT layers: against loops of tokens and steps, against the machine.

The seeds' model scaled down: width 256, 4 blocks, texts of 256 tokens, batches of 8; a vocabulary
of 4,096, as the published comparison's.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.bench.peer import peer_process
from ponderttt.bench.row import Options, Row, higher_is_better, lower_is_better, without_peer
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.evaluation.token_costs import model_flops
from ponderttt.experiments.comparison.methods import Spec
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.training.language import LanguageTrainingConfig, advance_seeds, start_seeds

BATCH, LENGTH, STEPS, SEEDS = 8, 256, 4, 5
MODEL = IterativeTransformerConfig(
    vocab_size=4096, hidden_dim=256, num_layers=4, num_heads=4, ffn_dim=1024, max_length=LENGTH,
    ttt_layer_indices=(1, 2), fast_weight="mlp", max_steps=STEPS, step_options=(1, 2, STEPS),
)  # fmt: skip
LINEAR = dataclasses.replace(MODEL, fast_weight="linear", max_steps=8, step_options=(1, 2, 4, 8))
SMALL = dataclasses.replace(LINEAR, hidden_dim=64, num_heads=2, ffn_dim=256, max_length=128)
PEER = "plain torch, a Python loop over tokens and steps"


def rows(options: Options) -> list[Row]:
    """Tokens a second with mlp and with linear fast weights; any K over K = 1; seeds together."""
    return [_against_loops(options), *_linear(), _seeds()]


def _training(model: IterativeTransformerConfig, mixture: tuple[float, ...], seeds: int = 1, **at):
    """One training step of so many seeds, to be timed; K drawn from `mixture`."""
    config = LanguageTrainingConfig(model, batch_size=BATCH, **at)
    keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
    learners = start_seeds(config, keys, model.max_length)
    rng = np.random.default_rng(0)
    shape = (seeds, 1, BATCH, model.max_length)
    ids = jnp.asarray(rng.integers(model.vocab_size, size=shape))
    method = Spec("mixture", mixture).method(seeds, len(model.ttt_layer_indices))
    step = partial(advance_seeds, config, "mixture")
    watch = (ids[0, 0], ids[0, 0])

    def run():
        copied = jax.tree.map(jnp.copy, learners)  # the step takes what it is given
        return step(copied, method, ids, jnp.roll(ids, -1, axis=-1), keys, watch)[1]

    return seconds(run)


def _against_loops(options: Options) -> Row:
    name = f"training step, mlp fast weights, K = {STEPS}, {BATCH} x {LENGTH} tokens"
    ours = {"ours": _training(MODEL, (0.0, 0.0, 1.0))}
    shape = (
        MODEL.vocab_size, MODEL.hidden_dim, MODEL.num_layers, 1, 3,
        MODEL.fast_weight_hidden_dim, STEPS, BATCH, LENGTH,
    )  # fmt: skip
    tokens = BATCH * LENGTH
    try:
        with peer_process(options.peer_python, "train.py", *map(str, shape)) as measure:
            times = interleaved(ours | {"peer": partial(measure, "step")}, repeats=3)
    except (OSError, ValueError) as error:
        rate = tokens / interleaved(ours, repeats=3)["ours"]
        return without_peer(name, rate, PEER, 10.0, str(error), "tokens/s")
    return higher_is_better(
        name, tokens / times["ours"], PEER, tokens / times["peer"], 10.0, "tokens/s"
    )


def _linear() -> list[Row]:
    size = 2048
    a = jax.random.normal(jax.random.key(0), (size, size))
    times = interleaved(
        {
            "product": seconds(jax.jit(jnp.matmul), a, a),
            "mixed": _training(LINEAR, (0.25, 0.25, 0.25, 0.25)),
            "K = 1": _training(LINEAR, (1.0, 0.0, 0.0, 0.0)),
        }
    )
    flops = model_flops(LINEAR, LENGTH, 1, include_backward=True, form="closed")["total"]
    rate, machine = BATCH * flops / times["mixed"], 2 * size**3 / times["product"]
    what = f"training step, linear fast weights in closed form, {BATCH} x {LENGTH} tokens"
    return [
        higher_is_better(
            f"{what}: share of the machine's rate of products", rate / 1e9,
            f"a product of {size}", machine / 1e9, 0.3, "GFLOP/s",
        ),
        lower_is_better(
            f"{what}: K of 1, 2, 4 or 8 at each token", times["mixed"], "K = 1 everywhere",
            times["K = 1"], 1 / 1.1,
        ),
    ]  # fmt: skip


def _seeds() -> Row:
    even = (0.25, 0.25, 0.25, 0.25)
    times = interleaved(
        {
            "one": _training(SMALL, even),
            "vmapped": _training(SMALL, even, SEEDS, seeds_at_once=SEEDS),
        }
    )
    return lower_is_better(
        f"training step of the published comparison, {SEEDS} seeds vmapped", times["vmapped"],
        "one seed", times["one"], 1 / 4,
    )  # fmt: skip
