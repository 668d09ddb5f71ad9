"""Chunks of text under one fixed action, one after the other."""

from collections.abc import Iterator

from ponderttt.errors import InputError
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import UniformPolicy
from ponderttt.prepare.corpora import load_texts
from ponderttt.prepare.reader import Reader
from ponderttt.prepare.tuning import next_token
from ponderttt.training.finite import check_finite


def read_chunks(
    lm: TransformerLM, source: str, action: str, *, chunks: int, size: int, per_document: int,
    rate: float, seed: int,
) -> Iterator[tuple[float, float]]:  # fmt: skip
    """Loss (nats a token, scored before the chunk is learned from) and cost of `chunks` chunks.

    Of test documents with up to `per_document` of them each; fast weights start afresh with each.
    A loss that is not finite is a `NotFinite` with its document and unit.
    """
    units = min(chunks, per_document)
    count = -(-chunks // units)
    texts = load_texts(lm, (source,), split="test", unit=size, units=units, count=count, seed=seed)
    if len(texts) < count:
        raise InputError(
            f"{source} has {len(texts)} test documents of {units} chunks of {size} tokens: "
            f"{chunks} chunks need {count}; lower num_chunks or chunk_size"
        )
    reader, adapter = Reader(lm, "switch", seed), next_token(rate, None)
    for i in range(count):
        episode = reader.read_raw(adapter, UniformPolicy(action), texts.corpus, i)
        for n in range(min(units, chunks - i * units)):
            check_finite(
                [[episode["nll"][n]]], ("document", "unit"), of=f"the loss at rate {rate:g}",
                names={"document": [texts.paths[i]], "unit": [n + 1]}, remedy="lower --rate",
            )  # fmt: skip
            yield float(episode["nll"][n]), float(episode["cost"][n])
