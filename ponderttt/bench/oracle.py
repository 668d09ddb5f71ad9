"""The exhaustive oracle, which computes a common prefix once, against every allocation alone."""

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.bench.row import Options, Row, lower_is_better
from ponderttt.environment.rollout import rollout
from ponderttt.environment.tree import enumerate_allocations, read_tree
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import SchedulePolicy
from ponderttt.types import CHUNK_ACTIONS, Documents

UNITS, LENGTH = 5, 64


def rows(options: Options) -> list[Row]:
    """Seconds of the tree beside those of reading all A^(N - 1) allocations, steps shared."""
    lm = TransformerLM.from_pretrained("tiny")
    shape = (1, UNITS, LENGTH)
    tokens = jax.random.randint(jax.random.key(0), shape, 0, 256)
    documents = Documents(tokens, jnp.ones(shape, bool), jnp.asarray(256))
    adapter = NextToken(SGD(jnp.asarray(0.3)))
    hidden = jnp.asarray(hidden_states(lm, documents, window=Window.of_unit(LENGTH)))
    count = len(CHUNK_ACTIONS.names)
    tables = jnp.asarray(np.eye(count)[enumerate_allocations(UNITS)], jnp.float32)

    @jax.jit
    def alone(tables):
        def read(table):
            policy = SchedulePolicy(table)
            return rollout(
                lm, adapter, policy, documents, key=jax.random.key(0), hidden=hidden,
                dispatch="switch",
            ).nll  # fmt: skip

        return jax.lax.map(read, tables)

    times = interleaved(
        {
            "tree": seconds(lambda: read_tree(lm, adapter, documents, hidden=hidden).token_nll),
            "alone": seconds(alone, tables),
        },
        repeats=5,
    )
    name = f"exhaustive oracle, {len(tables)} allocations of {UNITS} units"
    return [lower_is_better(name, times["tree"], "each read alone", times["alone"], 3.0)]
