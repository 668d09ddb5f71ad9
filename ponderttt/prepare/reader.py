"""Episodes on disk: a rollout that has been measured once is read back, so killed runs resume."""

import hashlib
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from ponderttt.cache import Arrays, cached, code_fingerprint, fingerprint
from ponderttt.environment.rollout import rollout
from ponderttt.inner.descent import Dispatch
from ponderttt.models.adapters.protocol import Adapter, token_losses
from ponderttt.models.decoder.hidden import Encoded, cached_states, hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import Policy
from ponderttt.training.finite import check_finite
from ponderttt.types import Documents


def with_hidden(lm: TransformerLM, documents: Documents, window: Window | None = None) -> Encoded:
    """`documents` with the frozen base's cached states; by default no unit sees another."""
    window = window or Window.of_unit(documents.tokens.shape[-1])
    states = cached_states(lm, documents, window=window)
    return Encoded(documents, [x.hidden for x in states], [x.attention for x in states])


@dataclass(frozen=True)
class Reader:
    """A language model that reads documents: what does not change between episodes."""

    lm: TransformerLM
    dispatch: Dispatch
    seed: int

    def read(self, adapter: Adapter, policy: Policy, texts: Encoded, index: int) -> Arrays:
        """The episode of document `index`: arrays [N] (`token_nll` and `mask` [N, U]).

        Losses that are not finite are a `NotFinite`.
        """
        episode = self.read_raw(adapter, policy, texts, index)
        check_finite([episode["nll"]], ("document", "unit"), names={"document": [index + 1]})
        return episode

    def read_raw(self, adapter: Adapter, policy: Policy, texts: Encoded, index: int) -> Arrays:
        """`read`, whatever the losses are."""
        documents = _one(texts, index)
        key = fingerprint(
            code_fingerprint(__name__), self.lm.fingerprint, adapter, policy, documents,
            self.dispatch, self.seed,
        )  # fmt: skip

        def compute() -> Arrays:
            # The random draws are the document's own, whatever else is in the corpus.
            content = hashlib.sha256(np.asarray(documents.tokens, np.int32).tobytes()).hexdigest()
            draws = jax.random.fold_in(jax.random.key(self.seed), int(content[:7], 16))
            # The states of the corpus are the last ones: suffix blocks begin with others.
            hidden = None if adapter.suffix_blocks else texts.batch(np.asarray([index]))[1]
            episode = rollout(
                self.lm, adapter, policy, documents,
                key=draws, dispatch=self.dispatch, hidden=hidden,
            )  # fmt: skip
            leaves = episode._asdict()
            del leaves["state"]
            return {name: np.asarray(value)[0] for name, value in leaves.items()}

        return cached("episodes", key, compute)

    def read_frozen(self, window: int, texts: Encoded, index: int) -> Arrays:
        """The frozen base's `token_nll` and `mask` [N, U], with `window` units attended to."""
        documents = _one(texts, index)
        key = fingerprint(
            code_fingerprint(__name__), self.lm.fingerprint, "frozen", documents, window
        )

        def compute() -> Arrays:
            chunk = Window(window * documents.tokens.shape[-1], overlap=False)
            if window == 1:
                hidden = np.asarray(texts.batch(np.asarray([index]))[1])
            else:
                hidden = hidden_states(self.lm, documents, window=chunk)
            losses = np.asarray(_frozen_losses(self.lm, hidden, documents.tokens))
            mask = np.asarray(documents.mask[0])
            return {"token_nll": losses[0] * mask, "mask": mask}

        return cached("episodes", key, compute)


def unit_means(token_nll: Float[np.ndarray, "N U"], mask: np.ndarray) -> Float[np.ndarray, "N"]:
    """Mean loss of each unit's real tokens."""
    return token_nll.sum(axis=-1) / np.maximum(mask.sum(axis=-1), 1)


_frozen_losses = jax.jit(token_losses)


def _one(corpus: Encoded, index: int) -> Documents:
    return corpus.documents.select(slice(index, index + 1))
