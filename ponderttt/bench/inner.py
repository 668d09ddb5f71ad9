"""The inner loop: closed forms against the loop, the published layers against torch, adaptation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ponderttt.bench.peer import peer_process
from ponderttt.bench.row import (
    Options,
    Row,
    higher_is_better,
    lower_is_better,
    straight_line,
    without_peer,
)
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.inner import FAST_WEIGHTS, Views, adapt, learn, reconstruction_gradient
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.ttt_layer import TTTConfig, TTTLayer
from ponderttt.models.iterative.reference_ttt import ReferenceTTTConfig, ReferenceTTTLayer

DOCUMENTS, HEADS, LENGTH, WIDTH = 4, 8, 2048, 64
MODEL, MINI_BATCH = 768, 16
PEER = "the published layer in plain torch"


def rows(options: Options) -> list[Row]:
    """Per-token K; tokens a second of the TTT layers; seconds by steps; memory of the backward."""
    return [*_closed_forms(), *_layers(options), _steps(), _memory()]


def _closed_forms() -> list[Row]:
    rng = np.random.default_rng(0)
    shape = (DOCUMENTS, HEADS, LENGTH)
    q, k, v = (jnp.asarray(rng.normal(size=(*shape, WIDTH)) / 8, jnp.float32) for _ in range(3))
    fast = {
        "w": jnp.zeros((DOCUMENTS, HEADS, WIDTH, WIDTH)), "b": jnp.zeros((DOCUMENTS, HEADS, WIDTH))
    }  # fmt: skip
    rate = jnp.full(shape, 0.3)
    mixed, one = jnp.asarray(rng.choice([1, 2, 4, 8], shape)), jnp.ones(shape, jnp.int32)

    def reading(method, most):
        return jax.jit(
            lambda fast, q, k, v, rate, steps: learn(
                fast, q, k, v, rate=rate, steps=steps, max_steps=most, method=method
            )[0]
        )

    loop, closed = reading("primal", 8), reading("chunkwise", 8)
    times = interleaved(
        {
            "loop": seconds(loop, fast, q, k, v, rate, mixed),
            "closed": seconds(closed, fast, q, k, v, rate, mixed),
            "closed, K = 1": seconds(reading("chunkwise", 1), fast, q, k, v, rate, one),
        }
    )
    what = f"per-token K of 1, 2, 4 or 8, {LENGTH} tokens, {DOCUMENTS * HEADS} heads of {WIDTH}"
    return [
        lower_is_better(
            f"{what}: chunkwise form", times["closed"], "the masked loop", times["loop"], 5.0
        ),
        lower_is_better(
            f"{what}: any K over K = 1", times["closed"], "K = 1 everywhere",
            times["closed, K = 1"], 1 / 1.1,
        ),
    ]  # fmt: skip


def _layers(options: Options) -> list[Row]:
    configs = (
        ReferenceTTTConfig(MODEL, fast_weight="linear", mini_batch=MINI_BATCH),
        ReferenceTTTConfig(MODEL, fast_weight="mlp", mini_batch=MINI_BATCH, base_rate=0.1),
    )
    x = jax.random.normal(jax.random.key(0), (1, LENGTH, MODEL))
    passes = {}
    for config in configs:
        graph, slow = nnx.split(ReferenceTTTLayer(config))

        def loss(slow, x, graph=graph):
            return jnp.sum(nnx.merge(graph, slow)(x)[0] ** 2)

        passes[f"{config.fast_weight} forward"] = seconds(jax.jit(loss), slow, x)
        passes[f"{config.fast_weight} backward"] = seconds(jax.jit(jax.grad(loss)), slow, x)
    shape = [str(n) for n in (MODEL, WIDTH, MINI_BATCH, LENGTH)]
    reason = ""
    try:
        with peer_process(options.peer_python, "ttt.py", *shape) as measure:
            theirs = {f"peer {line}": partial(measure, line) for line in passes}
            times = interleaved(passes | theirs, repeats=5)
    except (OSError, ValueError) as error:
        times, reason = interleaved(passes, repeats=5), str(error)
    return [_layer_row(line, times, reason) for line in passes]


def _layer_row(line: str, times: dict[str, float], reason: str) -> Row:
    name = f"TTT-{line.replace('backward', 'forward and backward')}, {LENGTH} tokens"
    rate = LENGTH / times[line]
    if reason:
        return without_peer(name, rate, PEER, 2.0, reason, "tokens/s")
    return higher_is_better(name, rate, PEER, LENGTH / times[f"peer {line}"], 2.0, "tokens/s")


def _steps() -> Row:
    """`adapt` under `switch`: one program, more steps."""
    views, fast = _unit(), _fast()
    gradient = partial(reconstruction_gradient, model="linear", norm=True)

    @jax.jit
    def descend(steps):
        return adapt(
            fast, views, steps, gradient=gradient, rule=SGD(jnp.asarray(0.01)), max_steps=64,
            dispatch="switch",
        )  # fmt: skip

    counts = [0, 8, 16, 32, 64]
    times = interleaved({n: seconds(descend, jnp.asarray(n)) for n in counts})
    name = "adapt, switch: seconds linear in the steps taken (0 to 64)"
    return straight_line(name, counts, list(times.values()))


def _unit() -> Views:
    heads, tokens = 9, 256
    q, k, v = jax.random.normal(jax.random.key(0), (3, heads, tokens, WIDTH))
    ones = jnp.ones((heads, WIDTH))
    return Views(q, k, v, ones, 0 * ones, jnp.ones(tokens, bool))


def _fast():
    keys = jax.random.split(jax.random.key(1), 9)
    return jax.vmap(lambda key: FAST_WEIGHTS["linear"].init(key, WIDTH, WIDTH))(keys)


def _memory() -> Row:
    """What the compiler reserves for the outer backward, over what it does for the forward."""
    units, unit, width = 16, 256, 576
    graph, slow = nnx.split(TTTLayer(TTTConfig(width, chunk_size=unit)))
    x = jax.ShapeDtypeStruct((1, units * unit, width), jnp.float32)

    def loss(slow, x):
        return jnp.sum(nnx.merge(graph, slow)(x, 4)[0] ** 2)

    def megabytes(function):
        memory = jax.jit(function).lower(slow, x).compile().memory_analysis()
        assert memory is not None  # every backend that we name has it
        return (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 1e6

    return lower_is_better(
        f"outer backward through {units} units of 4 steps: memory", megabytes(jax.grad(loss)),
        "the forward", megabytes(loss), 1 / 4, "MB",
    )  # fmt: skip
