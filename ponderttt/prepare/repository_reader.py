"""Reads repositories: states and episodes are computed once and kept, so killed runs go on."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ponderttt.cache import Arrays, cached, code_fingerprint, fingerprint
from ponderttt.environment.reading import Reset
from ponderttt.environment.rollout import read_part, rollout
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules import Gather
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.hidden import cached_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import Policy, UniformPolicy
from ponderttt.types import Documents


@dataclass(frozen=True)
class RepositoryReader:
    """A language model over one window that reads one repository at a time."""

    lm: TransformerLM
    window: Window
    seed: int = 0

    def states(self, document: Documents, suffix_blocks: int) -> Float[np.ndarray, "1 N U D"]:
        """What the last blocks begin with (0: what the head reads), memory-mapped."""
        found = cached_states(
            self.lm, document, window=self.window, suffix_blocks=suffix_blocks, summarise=False
        )
        return np.asarray(found[0].hidden)[None]

    def read(
        self,
        document: Documents,
        adapter: Adapter,
        policy: Policy,
        *,
        reset: Reset = "repository",
        states: Float[np.ndarray, "1 N U D"] | None = None,
    ) -> Arrays:
        """The episode of one repository, [N] and [N, U], whatever its losses are.

        `states` are those of `states`, where a document is put together from others.
        """
        key = fingerprint(
            code_fingerprint(__name__), self.lm.fingerprint, repr(self.window), reset, adapter,
            policy, document, self.seed,
        )  # fmt: skip

        def compute() -> Arrays:
            hidden = self.states(document, adapter.suffix_blocks) if states is None else states
            episode = rollout(
                self.lm, adapter, policy, document, key=jax.random.key(self.seed),
                dispatch="switch", window=self.window, reset=reset, hidden=hidden,
            )._asdict()  # fmt: skip
            names = ("token_nll", "nll", "mask", "steps", "cost", "gradient_norm")
            return {name: np.asarray(episode[name])[0] for name in names}

        return cached("episodes", key, compute)

    def gather(self, document: Documents, adapter: NextToken) -> Fast:
        """The sum of squared gradients over one repository, none of which is followed."""
        adapter = replace(adapter, rule=Gather())
        key = fingerprint(
            code_fingerprint(__name__), self.lm.fingerprint, repr(self.window), adapter, document,
            "gather",
        )  # fmt: skip
        structure = jax.tree.structure(jax.eval_shape(lambda: adapter.init(self.lm)))

        def compute() -> Arrays:
            carry = read_part(
                self.lm, adapter, UniformPolicy("UPDATE_1"), document,
                key=jax.random.key(self.seed), units=range(document.tokens.shape[1]),
                window=self.window, hidden=self.states(document, adapter.suffix_blocks),
            )[1]  # fmt: skip
            leaves = jax.tree.leaves(carry.learned.rule)
            return {f"{i:03d}": np.asarray(leaf) for i, leaf in enumerate(leaves)}

        found = cached("statistics", key, compute)
        return jax.tree.unflatten(structure, [jnp.asarray(found[name]) for name in sorted(found)])
