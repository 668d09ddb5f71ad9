"""A task of made-up losses: as many documents as a test asks for, and no model."""

import jax.numpy as jnp
import numpy as np
import pandas as pd

from ponderttt.allocation.stream import AllocationTask, Split
from ponderttt.environment.tree import Tree, first_nodes
from ponderttt.environment.walk import TreeEnvironment
from ponderttt.models.decoder.hidden import Encoded
from ponderttt.policies.features import NAMES
from ponderttt.prepare.corpora import Texts
from ponderttt.prepare.tuning import next_token
from ponderttt.types import Documents

UNITS, TOKENS = 4, 4


def made_split(documents: int, seed: int) -> Split:
    """Signals of every size at every node, and losses that fall a little with each update."""
    rng = np.random.default_rng(seed)
    nodes = first_nodes(UNITS)
    steps = np.array([0.0, 1.0, 2.0, 4.0])
    nll = rng.gamma(9.0, 1 / 3, (documents, nodes[-1], TOKENS))
    nll[:, 1:] -= 0.02 * steps[(np.arange(1, nodes[-1]) - 1) % 4][None, :, None]
    decided = (documents, nodes[-2])
    tree = Tree(
        *(
            jnp.asarray(x, jnp.float32)
            for x in (
                nll,
                nll.mean(axis=-1) + rng.normal(0, 0.1, nll.shape[:2]),
                rng.gamma(9.0, 1 / 3, decided),
                rng.gamma(9.0, 1 / 3, decided),
                rng.normal(0, 1, (*decided, len(NAMES))),
            )
        )
    )
    tokens = np.zeros((documents, UNITS, TOKENS), np.int32)
    texts = Texts(
        Encoded(Documents(tokens, np.ones(tokens.shape, bool), np.asarray(0)), []),  # type: ignore[arg-type]
        tuple("ab"[i % 2] for i in range(documents)),
        tuple(f"{seed}/{i}" for i in range(documents)),
        {},
    )
    return Split(texts, TreeEnvironment(tree, tree.features))


def made_task(documents: int) -> AllocationTask:
    """Training, validation and test documents, `documents` of each."""
    parts = [made_split(documents, seed) for seed in range(3)]
    return AllocationTask("made", next_token(1.0, None), *parts, tuned=pd.DataFrame())
