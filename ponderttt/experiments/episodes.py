"""Episodes on disk: a rollout that has been measured once is read back, so killed runs resume."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ponderttt.inner.descent import Dispatch
from ponderttt.models.adapters import Adapter, token_losses
from ponderttt.models.hidden import cached_states, hidden_states
from ponderttt.models.lm import TransformerLM
from ponderttt.policies import Policy
from ponderttt.rollout import rollout
from ponderttt.storage import cache_folder, code_fingerprint, load_arrays, save_arrays
from ponderttt.training.trainer import Encoded
from ponderttt.types import Documents

Arrays = dict[str, np.ndarray]


def fingerprint(*parts: Any) -> str:
    """Hexadecimal digest of arrays (their bytes) and of everything else (its repr)."""
    digest = hashlib.sha256()
    for part in parts:
        for leaf in jax.tree.leaves(part):
            if isinstance(leaf, jax.Array | np.ndarray):
                digest.update(np.ascontiguousarray(leaf).tobytes())
            else:
                digest.update(repr(leaf).encode())
        digest.update(b"|")
    return digest.hexdigest()


_MODELS = ("adapters", "attention", "config", "decoder", "head", "hidden", "lm", "ttt_layer")
READING = (
    "types.py", "rollout.py", "policies/features.py",
    *(f"inner/{name}.py" for name in ("descent", "fast_weights", "objectives")),
    *(f"models/{name}.py" for name in _MODELS),
)  # fmt: skip
"""The code that a frozen model reads documents with: what other code read is not ours."""

_CODE = code_fingerprint(*READING, "policies/policy.py")


def remembered(key: str, compute: Callable[[], Arrays]) -> Arrays:
    """What `compute` gives, kept under `key` on disk and read back from there."""
    folder = cache_folder("episodes")
    found = load_arrays(folder, key)
    return found if found is not None else save_arrays(folder, key, compute())


def with_hidden(lm: TransformerLM, documents: Documents) -> Encoded:
    """`documents` with the frozen base's cached states, one unit an attention window."""
    unit = documents.tokens.shape[-1]
    states = cached_states(lm, documents, chunk=unit)
    return Encoded(documents, [x.hidden for x in states], [x.attention for x in states])


@dataclass(frozen=True)
class Reader:
    """A language model that reads documents: what does not change between episodes."""

    lm: TransformerLM
    dispatch: Dispatch
    seed: int

    def read(self, adapter: Adapter, policy: Policy, texts: Encoded, index: int) -> Arrays:
        """The episode of document `index`: arrays [N] (`token_nll` and `mask` [N, U])."""
        documents = _one(texts, index)
        content = fingerprint(documents)
        key = fingerprint(
            _CODE, self.lm.fingerprint, type(adapter).__name__, adapter, adapter.spec,
            type(policy).__name__, policy, getattr(policy, "action", ""), policy.actions,
            content, self.dispatch, self.seed,
        )  # fmt: skip

        def compute() -> Arrays:
            # The random draws are the document's own, whatever else is in the corpus.
            draws = jax.random.fold_in(jax.random.key(self.seed), int(content[:7], 16))
            _, hidden = texts.batch(np.asarray([index]))
            episode = rollout(
                self.lm, adapter, policy, documents,
                key=draws, dispatch=self.dispatch, hidden=hidden,
            )  # fmt: skip
            return {name: np.asarray(value[0]) for name, value in episode._asdict().items()}

        return remembered(key, compute)

    def read_frozen(self, window: int, texts: Encoded, index: int) -> Arrays:
        """The frozen base's `token_nll` and `mask` [N, U], with `window` units attended to."""
        documents = _one(texts, index)
        key = fingerprint(_CODE, self.lm.fingerprint, "frozen", documents, window)

        def compute() -> Arrays:
            chunk = window * documents.tokens.shape[-1]
            cached = texts.batch(np.asarray([index]))[1] if window == 1 else None
            hidden = hidden_states(self.lm, documents, chunk=chunk) if cached is None else cached
            losses = np.asarray(_frozen_losses(self.lm, hidden, documents.tokens))
            mask = np.asarray(documents.mask[0])
            return {"token_nll": losses[0] * mask, "mask": mask}

        return remembered(key, compute)


def unit_means(token_nll: Float[np.ndarray, "N U"], mask: np.ndarray) -> Float[np.ndarray, "N"]:
    """Mean loss of each unit's real tokens."""
    return token_nll.sum(axis=-1) / np.maximum(mask.sum(axis=-1), 1)


_frozen_losses = jax.jit(token_losses)


def _one(corpus: Encoded, index: int) -> Documents:
    return corpus.documents.select(slice(index, index + 1))
