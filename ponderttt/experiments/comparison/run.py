"""The comparison: every method on every seed, its random control, tests, costs."""

import dataclasses

import numpy as np

from ponderttt.data.language import load_language
from ponderttt.data.tokenizer import vocabulary_size
from ponderttt.experiments.comparison import significance, tables
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import RANDOM, Spec, order_of, spec_of
from ponderttt.experiments.comparison.timing import efficiency
from ponderttt.experiments.comparison.training import (
    Texts,
    Trained,
    load_texts,
    realised_mix,
    train_method,
)
from ponderttt.models.iterative.model import count_parameters
from ponderttt.result import Result


def run(config: ComparisonConfig) -> Result:
    """Train, read, compare; see `tables` for what comes back. Finished methods are not repeated."""
    bpe = config.tokenizer == "bpe"
    corpus = load_language(
        config.source, vocab_size=config.vocab_size, tokenizer=None if bpe else config.tokenizer
    )
    texts = load_texts(config, corpus)
    found: dict[str, Trained] = {}
    for name in order_of(config.methods):
        found[name] = train_method(config, name, _spec(config, name, found, texts), texts)
    model = config.model(vocab_size=vocabulary_size(corpus.tokenizer))
    documents = tables.documents(config, found, texts)
    seeds = tables.seeds(model, documents)
    costs = efficiency(config, model, texts)
    methods = tables.methods(found, documents, seeds, texts)
    methods = tables.timed(config, methods, costs)
    return Result(
        name="comparison",
        config=dataclasses.asdict(config),
        tables={
            "methods": methods,
            "tests": significance.tests(config, documents),
            "documents": documents,
            "seeds": seeds,
            "allocation": tables.allocation(config, model, found, texts),
            "history": tables.history(config, found),
            "strip": tables.strip(found, texts),
            "frontier": tables.frontier(methods),
            "efficiency": costs,
        },
        scalars={
            "num_params": count_parameters(model),
            "untrained_perplexity": float(
                np.exp(np.mean([trained.untrained.mean() for trained in found.values()]))
            ),
            "test_documents": documents["document"].nunique(),
            "test_tokens": int(texts.test.mask.sum()),
            "train_tokens": config.steps * config.batch_size * config.max_length,
        },
        meta={"source": corpus.record},
    )


def _spec(config: ComparisonConfig, name: str, found: dict[str, Trained], texts: Texts) -> Spec:
    """How `name` decides; a random control draws what its method took on validation documents."""
    if not name.startswith(RANDOM):
        return spec_of(name)
    own = name.removeprefix(RANDOM)
    options = config.model().step_options
    return spec_of(own).control(
        realised_mix(found[own].validation_steps, texts.validation.mask, options)
    )
