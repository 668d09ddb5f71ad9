"""The texts of an experiment: documents of several sources, with the frozen base's states."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from ponderttt.data import load_documents
from ponderttt.errors import InputError
from ponderttt.models.decoder.hidden import Encoded
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.prepare.reader import with_hidden
from ponderttt.progress import track
from ponderttt.types import Documents


@dataclass(frozen=True)
class Texts:
    """One corpus and what is known of its documents, in the same order."""

    corpus: Encoded
    sources: tuple[str, ...]
    paths: tuple[str, ...]
    record: dict

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, indices: list[int]) -> "Texts":
        """The documents at `indices`, in that order."""
        corpus = self.corpus
        return Texts(
            Encoded(
                corpus.documents.select(np.asarray(indices)),
                [corpus.hidden[i] for i in indices],
                [corpus.attention[i] for i in indices],
            ),
            tuple(self.sources[i] for i in indices),
            tuple(self.paths[i] for i in indices),
            self.record,
        )

    def round_robin(self) -> list[int]:
        """Indices of all documents, sources taking turns."""
        rank = [self.sources[:i].count(self.sources[i]) for i in range(len(self))]
        return sorted(range(len(self)), key=rank.__getitem__)

    def first_of_each(self, count: int) -> list[int]:
        """Indices of the first `count` documents of every source."""
        chosen: list[int] = []
        for source in dict.fromkeys(self.sources):
            chosen += [i for i, name in enumerate(self.sources) if name == source][:count]
        return chosen


def load_texts(
    lm: TransformerLM,
    sources: tuple[str, ...],
    *,
    split: str,
    unit: int,
    units: int,
    count: int,
    seed: int,
) -> Texts:
    """Up to `count` documents of exactly `units` units from each source, hidden states cached."""
    if unit > lm.config.max_positions:
        raise InputError(
            f"units of {unit} tokens: {lm.name} has positions for {lm.config.max_positions}; lower "
            f"the size of a unit to at most {lm.config.max_positions}"
        )
    tokenizer = lm.load_tokenizer()
    parts = {
        source: load_documents(
            source, tokenizer, split=split, unit=unit, units=units, min_units=units,
            max_documents=count, seed=seed,
        )
        for source in sources
    }  # fmt: skip
    # NumPy arrays, as those of each source: what is selected on the host is not compiled.
    found = [part.documents for part in parts.values()]
    documents = Documents(
        np.concatenate([each.tokens for each in found]),  # type: ignore[arg-type]
        np.concatenate([each.mask for each in found]),  # type: ignore[arg-type]
        np.asarray(found[0].bos),  # type: ignore[arg-type]
    )
    states: list[Encoded] = []
    names = [part.source for part in parts.values()]
    label = f"hidden states, {names[0] if len(names) == 1 else split}"
    for i in track(range(len(documents.tokens)), label, len(documents.tokens)):
        states.append(with_hidden(lm, documents.select(slice(i, i + 1))))
    return Texts(
        Encoded(documents, [x.hidden[0] for x in states], [x.attention[0] for x in states]),
        tuple(part.source for part in parts.values() for _ in part.paths),
        tuple(path for part in parts.values() for path in part.paths),
        {part.source: dataclasses.asdict(part)["record"] for part in parts.values()},
    )
