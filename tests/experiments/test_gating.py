"""The gating experiment's tables, on a made tree: random arrays, no model."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from ponderttt.allocation.candidates import decision_episode
from ponderttt.allocation.stream import AllocationTask, Split
from ponderttt.environment.tree import Tree, first_nodes
from ponderttt.environment.walk import TreeEnvironment
from ponderttt.experiments.gating.tables import SHARE, drift
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.hidden import Encoded
from ponderttt.policies import EMAGate
from ponderttt.prepare.corpora import Texts
from ponderttt.types import Documents

UNITS, LENGTH = 4, 2


def made_split(documents: int, seed: int) -> Split:
    """Documents of random losses in every node of their trees."""
    rng = np.random.default_rng(seed)
    inside, nodes = first_nodes(UNITS)[-2:]
    losses = jnp.asarray(rng.gamma(9.0, 0.3, (documents, nodes, LENGTH)), jnp.float32)
    nothing = jnp.zeros((documents, inside))
    tree = Tree(losses, losses.mean(axis=-1), nothing, nothing, jnp.zeros((documents, inside, 32)))
    tokens = np.zeros((documents, UNITS, LENGTH), np.int32)
    corpus = Encoded(Documents(tokens, np.ones(tokens.shape, bool), np.asarray(0)), [], [])
    names = tuple(f"file{i}" for i in range(documents))
    return Split(Texts(corpus, ("go", "zig") * (documents // 2), names, {}), TreeEnvironment(tree))


def made_task() -> AllocationTask:
    splits = (made_split(count, seed) for seed, count in enumerate((4, 20, 40)))
    return AllocationTask("made", NextToken(SGD(jnp.asarray(1.0))), *splits, pd.DataFrame())


def test_the_drift_table_holds_the_thresholds_that_decided():
    """Against the gate's rule written out over every unit of every document, the last one too."""
    task = made_task()
    losses = np.asarray(decision_episode(task.validation).inner_loss)
    gate = EMAGate.calibrate(losses, target=SHARE)
    episode = task.test.environment.run(gate, key=jax.random.key(0))
    table = drift(task)
    tau, share = float(gate.threshold), SHARE
    for i in range(len(task.test)):
        np.testing.assert_allclose(table["threshold"][i], tau, rtol=1e-5)
        np.testing.assert_allclose(table["running_share"][i], share, rtol=1e-5)
        taken = np.asarray(episode.inner_loss[i]) > np.nan
        for n, loss in enumerate(np.asarray(episode.inner_loss[i])):
            taken[n] = loss > tau
            share = 0.9 * share + 0.1 * taken[n]
            tau += 0.1 * (share - SHARE) * abs(tau)
        np.testing.assert_array_equal(np.asarray(episode.action[i, :-1]) > 0, taken[:-1])
        assert table["updated"][i] == taken[:-1].mean()
