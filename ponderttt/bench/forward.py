"""Forward with loss, 512 tokens, float32: against transformers on torch, and the product rate."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.bench.peer import peer_process
from ponderttt.bench.row import Options, Row, higher_is_better, lower_is_better, without_peer
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.families import gpt2, llama
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.head import head_nll

LENGTH = 512
MODELS = {"smollm2-135m": llama.smollm2_135m(), "gpt2": gpt2.gpt2()}
PEER = "transformers on torch"
SPEED_BAR, RATE_BAR = 1.5, 0.6


def rows(options: Options) -> list[Row]:
    """Two rows a model: seconds beside the peer's, and products a second beside a bare product."""
    return [row for name in MODELS for row in _model_rows(name, options)]


def _model_rows(name: str, options: Options) -> list[Row]:
    config = MODELS[name]
    lm = TransformerLM.random(config)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, LENGTH + 1), np.int32)
    hidden = jax.random.normal(jax.random.key(0), (LENGTH, config.width))
    measurements = {
        "ours": seconds(_loss, lm, tokens),
        "product": seconds(jax.jit(lambda h, e: h @ e.T), hidden, lm.head),
    }
    title = f"forward with loss, {name}, {LENGTH} tokens"
    try:
        with peer_process(options.peer_python, "forward.py", name, str(LENGTH)) as measure:
            times = interleaved(measurements | {"peer": partial(measure, "")})
        speed = lower_is_better(title, times["ours"], PEER, times["peer"], SPEED_BAR)
    except (OSError, ValueError) as error:
        times = interleaved(measurements)
        speed = without_peer(title, times["ours"], PEER, SPEED_BAR, str(error))
    rate = product_flops(config) / times["ours"] / 1e9
    bare = 2 * LENGTH * config.width * config.vocab_size / times["product"] / 1e9
    head = "the head's product alone"
    return [speed, higher_is_better(f"{title}: rate", rate, head, bare, RATE_BAR, "GFLOP/s")]


@jax.jit
def _loss(lm: TransformerLM, tokens):
    return jnp.mean(head_nll(lm.hidden_states(tokens[:, :-1]), lm.head, tokens[:, 1:]))


def product_flops(config: DecoderConfig) -> float:
    """Floating-point operations of the weights' products in one forward, attention not counted."""
    lm = jax.eval_shape(lambda: TransformerLM.random(config))
    weights = sum(leaf.size for leaf in jax.tree.leaves(lm) if leaf.ndim == 3)
    return 2.0 * LENGTH * (weights + config.width * config.vocab_size)
