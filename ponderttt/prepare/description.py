"""What is known of documents whatever a policy does in them, and the constants of all features."""

import numpy as np
from jaxtyping import Float

from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import FeatureExtractor
from ponderttt.policies.features import TokenTable, describe
from ponderttt.prepare.corpora import Texts


def token_table(lm: TransformerLM, training: Texts) -> TokenTable:
    """What training documents tell of the vocabulary and of the base's states."""
    corpus = training.corpus
    tokenizer = lm.load_tokenizer()
    return TokenTable.fit(tokenizer, np.asarray(corpus.documents.tokens), corpus.hidden[0])


def described(table: TokenTable, texts: Texts) -> Float[np.ndarray, "B N described"]:
    """The features of each unit that do not depend on what a policy does."""
    corpus = texts.corpus
    tokens, mask = (np.asarray(x) for x in (corpus.documents.tokens, corpus.documents.mask))
    rows = [
        describe(table, tokens[i], mask[i], corpus.hidden[i], corpus.attention[i])
        for i in range(len(texts))
    ]
    return np.stack(rows)


def with_constants(raw: FeatureExtractor, features: Float[np.ndarray, "B N F"]) -> FeatureExtractor:
    """`raw` with the constants of raw features of training documents.

    Nothing is decided about a document's last unit, and it is left out.
    """
    seen = np.asarray(features)[:, :-1]
    return raw.fit(seen.reshape(-1, seen.shape[-1]))
