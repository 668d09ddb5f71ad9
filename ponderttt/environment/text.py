"""Live text as an environment: whatever is asked is read by `rollout`, once for each question."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ponderttt import pytree
from ponderttt.environment.protocol import Allocations, Expected, Horizon
from ponderttt.environment.rollout import rollout
from ponderttt.environment.tree import MOST_UNITS, enumerate_allocations, path_nodes
from ponderttt.errors import InputError
from ponderttt.inner.descent import Dispatch
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import FeatureExtractor, Policy, SchedulePolicy
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Documents, Episode


@dataclass(frozen=True)
class LiveText:
    """Documents with their cached states, read anew under every policy: the reference.

    `run` reads each document once. `counterfactuals` read it once for each decision and action, the
    rest all A^(N-1) allocations: to compare with, on a few short documents without padding.
    """

    lm: TransformerLM
    adapter: Adapter
    documents: Documents
    hidden: Float[Array, "B N U D"]
    extractor: FeatureExtractor | None = None
    described: Float[Array, "B N described"] | None = None
    dispatch: Dispatch = "switch"
    actions: ActionSpace = CHUNK_ACTIONS

    @property
    def num_documents(self) -> int:
        return self.documents.tokens.shape[0]

    @property
    def num_units(self) -> int:
        return self.documents.tokens.shape[1]

    @property
    def num_decisions(self) -> int:
        return self.num_units

    def select(self, index: Any) -> "LiveText":
        described = None if self.described is None else self.described[index]
        documents, hidden = self.documents.select(index), self.hidden[index]
        return replace(self, documents=documents, hidden=hidden, described=described)

    def run(self, policy: Policy, *, key: Key[Array, "*B"], state: Any = None) -> Episode:
        return rollout(
            self.lm, self.adapter, policy, self.documents, key=key, state=state,
            dispatch=self.dispatch, hidden=self.hidden, extractor=self.extractor,
            described=self.described,
        )  # fmt: skip

    def allocations(self) -> Allocations:
        if self.num_units > MOST_UNITS:
            raise InputError(
                f"documents of {self.num_units} units have too many allocations to read them all: "
                f"expected {MOST_UNITS} units at most"
            )
        taken = enumerate_allocations(self.num_units, self.actions)
        shape = (self.num_documents, *taken.shape)
        cost = np.asarray(self.actions.costs)[taken].sum(axis=-1)
        return Allocations(
            self._losses(taken).sum(axis=-1), np.broadcast_to(cost, shape[:2]),
            np.broadcast_to(taken, shape),
        )  # fmt: skip

    def counterfactuals(
        self, episode: Episode, horizon: Horizon = "next"
    ) -> Float[np.ndarray, "B decisions A"]:
        units, count = self.num_units, len(self.actions.names)
        gains = []
        for b in range(self.num_documents):
            # What was decided before, each action here, and the cheapest from there on.
            taken = np.zeros((units - 1, count, units), int)
            for n in range(units - 1):
                taken[n, :, :n] = np.asarray(episode.action)[b, :n]
                taken[n, :, n] = np.arange(count)
            one = self.select(np.asarray([b]))
            nll = one._losses(taken.reshape(-1, units))[0].reshape(taken.shape)
            after = np.arange(units)[None] - np.arange(units - 1)[:, None]  # units since the action
            counted = after == 1 if horizon == "next" else after > 0
            worth = (nll * counted[:, None]).sum(axis=-1)
            gains.append(worth[:, :1] - worth)
        return np.stack(gains)

    def expected(self, probabilities: Float[Array, "B E A"]) -> Expected:
        loss, cost, taken = self.allocations()
        before = path_nodes(np.asarray(taken)[0], len(self.actions.names))[:, :-1]
        chosen = np.asarray(probabilities, float)[:, before, np.asarray(taken)[0, :, :-1]]
        weight = chosen.prod(axis=-1)  # B W
        steps = np.asarray(self.actions.steps)[np.asarray(taken)].sum(axis=-1)
        means = ((weight * x).sum(axis=1) / self.num_units for x in (loss, cost, steps))
        return Expected(*(jnp.asarray(x, jnp.float32) for x in means))

    def _losses(self, taken: Int[np.ndarray, "W N"]) -> Float[np.ndarray, "B W N"]:
        """Of every unit under each of these allocations, the same for all documents."""
        if not np.asarray(self.documents.mask).all():
            raise InputError("allocations are compared on full documents: expected no padding")
        tables = jnp.eye(len(self.actions.names))[taken]
        return np.moveaxis(np.asarray(_read_schedules(self, tables), float), 0, 1)


pytree.register(LiveText, meta_fields=["dispatch", "actions"])


@jax.jit
def _read_schedules(environment: LiveText, tables: Float[Array, "W N A"]) -> Float[Array, "W B N"]:
    def read(table):
        policy = SchedulePolicy(table, environment.actions)
        return environment.run(policy, key=jax.random.key(0)).nll

    return jax.lax.map(read, tables)
