"""The parameters of the comparison; the defaults are the smoke preset."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from ponderttt.checks import Bounds, Count, Seed, check
from ponderttt.errors import InputError
from ponderttt.evaluation.paired import smallest_wilcoxon_p
from ponderttt.experiments.comparison.methods import check_method, spec_of
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.prepare.inputs import LanguageName
from ponderttt.training.language import LanguageTrainingConfig

ALPHA = 0.05


@dataclass(frozen=True)
class ComparisonConfig:
    """What to train on, which methods, how long and how large."""

    source: LanguageName = "wikipedia"
    """wikipedia (from wheels); wikitext-2, wikitext-103, ptb (from the hub); or their folder."""
    methods: tuple[Annotated[str, check_method], ...] = (
        "uniform_k1", "uniform_k4", "heuristic_entropy", "learned_lambda001_target4",
    )  # fmt: skip
    """Each is trained from scratch; those that choose by token bring a random control."""
    seeds: tuple[Seed, ...] = (42, 123)
    num_epochs: Count = 1
    max_train_batches: Count = 6
    """Of an epoch."""
    max_eval_batches: Count = 2
    """Of test documents, and as many of validation."""
    batch_size: Count = 4
    max_length: Annotated[int, Bounds(2)] = 32
    """Tokens of a document: a window of a text."""
    hidden_dim: Annotated[int, Bounds(4)] = 32
    num_layers: Annotated[int, Bounds(1, 1000)] = 2
    fast_weight: Literal["linear", "mlp"] = "linear"
    tokenizer: str = "bpe"
    """bpe: byte-level, `vocab_size` tokens, trained on the training split; or a known name."""
    vocab_size: Annotated[int, Bounds(257)] = 4096
    test: Literal["auto", "seeds", "documents"] = "auto"
    """What p-values are corrected: over seeds where there are several (`seeds`: refuse too few to
    reach 0.05), or over every seed and document."""

    def __post_init__(self):
        check(self)
        self._check_test()
        if self.hidden_dim % min(64, self.hidden_dim // 2):
            raise InputError(
                f"hidden_dim is {self.hidden_dim}: expected an even number below 128, or a "
                "multiple of 64, the width of a head"
            )
        for name in self.methods:
            self.training().check(spec_of(name).kind)

    def _check_test(self) -> None:
        tests, least = max(1, len(self.methods) - 1), smallest_wilcoxon_p(len(self.seeds))
        if self.test == "seeds" and least >= ALPHA / tests:
            needed = 1 + math.floor(1 - math.log2(ALPHA / tests))
            raise InputError(
                f"{len(self.seeds)} seeds: a signed-rank test over them never gives p below "
                f"{least:.3g}, and {tests} comparisons need {ALPHA / tests:.2g}; expected "
                f"{needed} seeds or more, or another test"
            )

    @property
    def steps(self) -> int:
        """Training steps."""
        return self.num_epochs * self.max_train_batches

    def model(self, **options) -> IterativeTransformerConfig:
        """The transformer; the middle blocks have TTT layers, as blocks 2 to 4 of the seeds' 6."""
        heads = self.hidden_dim // min(64, self.hidden_dim // 2)
        return IterativeTransformerConfig(
            vocab_size=options.pop("vocab_size", self.vocab_size),
            hidden_dim=self.hidden_dim,
            num_layers=self.num_layers,
            num_heads=heads,
            ffn_dim=4 * self.hidden_dim,
            max_length=self.max_length,
            ttt_layer_indices=tuple(range(self.num_layers // 3, max(1, self.num_layers - 1))),
            fast_weight=self.fast_weight,
            **options,
        )

    def training(self, **options) -> LanguageTrainingConfig:
        """How each method is trained; `options` are the model's."""
        return LanguageTrainingConfig(
            self.model(**options), steps=self.steps, batch_size=self.batch_size
        )
