"""What a unit costs under each action, in every ledger."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from ponderttt.allocation.stream import AllocationTask
from ponderttt.environment.rollout import rollout
from ponderttt.evaluation.costs import ledgers
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import SchedulePolicy
from ponderttt.types import CHUNK_ACTIONS


def unit_costs(lm: TransformerLM, task: AllocationTask) -> pd.DataFrame:
    """Nominal cost, adapter and model FLOPs, and seconds a unit where all units take one action.

    Seconds are of reading the first test document alone: the base's forward, and scoring and
    adapting unit after unit with no step that is not taken. Medians, all timed in turns.
    """
    documents, hidden = task.test.texts.corpus.batch(np.asarray([0]))
    units, unit = documents.tokens.shape[1:]
    read = partial(
        rollout, lm, task.adapter,
        documents=documents, key=jax.random.key(0), dispatch="switch", hidden=hidden,
    )  # fmt: skip

    certain = np.eye(len(CHUNK_ACTIONS.names), dtype=np.float32)

    def always(action: int):
        policy = SchedulePolicy(jnp.asarray(certain[np.full(units, action)]))
        return seconds(lambda: read(policy=policy).nll)

    names = CHUNK_ACTIONS.names
    measurements = {name: always(a) for a, name in enumerate(names)}
    base = seconds(lambda: hidden_states(lm, documents, window=Window.of_unit(unit)))
    taken = interleaved(measurements | {"base": base}, repeats=3)
    analytic = ledgers(CHUNK_ACTIONS.steps, config=lm.config, unit=unit)
    return pd.DataFrame(
        {"stream": task.stream, "action": names, "steps": CHUNK_ACTIONS.steps}
        | analytic._asdict()
        | {"seconds": [(taken["base"] + taken[name]) / units for name in names]}
    )
