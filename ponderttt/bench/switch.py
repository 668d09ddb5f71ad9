"""Seconds of the `switch` dispatch against the steps that were really taken."""

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.bench.row import Options, Row, straight_line
from ponderttt.environment.rollout import rollout
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.families import llama
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import RandomPolicy
from ponderttt.types import Documents

UNITS, LENGTH = 8, 256


def rows(options: Options) -> list[Row]:
    """R^2 of a straight line through (steps taken, seconds), one program for all of them."""
    lm = TransformerLM.random(llama.smollm2_135m())
    shape = (1, UNITS, LENGTH)
    tokens = jax.random.randint(jax.random.key(0), shape, 0, lm.config.vocab_size)
    documents = Documents(tokens, jnp.ones(shape, bool), jnp.zeros((), int))
    hidden = jax.random.normal(jax.random.key(1), (*shape, lm.config.width))

    def read(skipped):
        mix = RandomPolicy(jnp.asarray([skipped, 0.0, 0.0, 1.0 - skipped]))
        return rollout(
            lm, NextToken(SGD(jnp.asarray(0.0))), mix, documents,
            key=jax.random.key(2), dispatch="switch", hidden=hidden,
        )  # fmt: skip

    shares = np.linspace(0.0, 1.0, 5)
    steps = [int(read(share).steps.sum()) for share in shares]
    times = interleaved(
        {str(share): seconds(lambda share=share: read(share).nll) for share in shares}, repeats=3
    )
    name = f"switch: seconds linear in the steps taken ({min(steps)} to {max(steps)})"
    return [straight_line(name, steps, list(times.values()))]
