"""Episodes on disk: a rollout that has been measured once is read back, so killed runs resume."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ponderttt.models.adapters import Adapter, token_losses
from ponderttt.models.hidden import cached_hidden_states, hidden_states
from ponderttt.models.lm import TransformerLM
from ponderttt.policies import Policy
from ponderttt.rollout import rollout
from ponderttt.storage import ROOT, cache_folder, load_arrays, save_arrays
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


def code_fingerprint(root: Path = ROOT / "ponderttt") -> str:
    """Digest of the code that an episode's numbers come from."""
    files = sorted(
        file
        for place in ("types.py", "rollout.py", "inner", "models", "policies")
        for file in ([root / place] if place.endswith(".py") else (root / place).glob("*.py"))
    )
    return fingerprint(*(file.read_bytes() for file in files))


_CODE = code_fingerprint()


def _remembered(key: str, compute) -> Arrays:
    folder = cache_folder("episodes")
    found = load_arrays(folder, key)
    return found if found is not None else save_arrays(folder, key, compute())


def with_hidden(lm: TransformerLM, documents: Documents, *, progress=None) -> Encoded:
    """`documents` with the frozen base's cached states, one unit an attention window."""
    unit = documents.tokens.shape[-1]
    return Encoded(documents, cached_hidden_states(lm, documents, chunk=unit, progress=progress))


def read(
    lm: TransformerLM,
    adapter: Adapter,
    policy: Policy,
    corpus: Encoded,
    index: int,
    *,
    dispatch: str,
    seed: int,
) -> Arrays:
    """The episode of document `index`: arrays [N] (`token_nll` and `mask` [N, U])."""
    documents = _one(corpus, index)
    key = fingerprint(
        _CODE, lm.fingerprint, lm.dtype, adapter, adapter.spec, policy, type(policy).__name__,
        repr(getattr(policy, "action", "")), documents, dispatch, seed,
    )  # fmt: skip

    def compute() -> Arrays:
        # The key of the random draws is the document's own, whatever else is in the corpus.
        draws = jax.random.fold_in(jax.random.key(seed), int(fingerprint(documents)[:7], 16))
        _, hidden = corpus.batch(np.asarray([index]))
        episode = rollout(
            lm, adapter, policy, documents, key=draws, dispatch=dispatch, hidden=hidden
        )
        return {name: np.asarray(value[0]) for name, value in episode._asdict().items()}

    return _remembered(key, compute)


def read_frozen(lm: TransformerLM, corpus: Encoded, index: int, *, window: int) -> Arrays:
    """The frozen base's losses on document `index`, with `window` units of attention window.

    Returns `token_nll` [N, U], `nll` [N], `mask` [N, U]: the same fields as an episode's.
    """
    documents = _one(corpus, index)
    key = fingerprint(_CODE, lm.fingerprint, lm.dtype, "frozen", documents, window)
    unit = documents.tokens.shape[-1]

    def compute() -> Arrays:
        if window == 1:
            _, hidden = corpus.batch(np.asarray([index]))
        else:
            hidden = hidden_states(lm, documents, chunk=window * unit)
        return {
            "token_nll": np.asarray(_frozen_losses(lm, hidden, documents.tokens))[0]
            * documents.mask[0],
            "mask": np.asarray(documents.mask[0]),
        }

    arrays = _remembered(key, compute)
    return arrays | {"nll": unit_means(arrays["token_nll"], arrays["mask"])}


def unit_means(token_nll: Float[np.ndarray, "N U"], mask: np.ndarray) -> Float[np.ndarray, "N"]:
    """Mean loss of each unit's real tokens."""
    return token_nll.sum(axis=-1) / np.maximum(mask.sum(axis=-1), 1)


_frozen_losses = jax.jit(token_losses)


def _one(corpus: Encoded, index: int) -> Documents:
    return corpus.documents.select(slice(index, index + 1))
