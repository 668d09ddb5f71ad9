"""The parameters of the comparison; the defaults are the smoke preset."""

import math
from dataclasses import dataclass
from typing import Literal

import jax

from ponderttt.checks import check_choices, check_numbers
from ponderttt.data.language_files import check_language
from ponderttt.errors import InputError
from ponderttt.evaluation.paired import smallest_wilcoxon_p
from ponderttt.experiments.comparison.methods import CONTROLS, METHODS, spec_of
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.training.language import LanguageTrainingConfig

ALPHA = 0.05


@dataclass(frozen=True)
class ComparisonConfig:
    """What to train on, which methods, how long and how large."""

    source: str = "wikipedia"
    """wikipedia (from wheels); wikitext-2, wikitext-103, ptb (from the hub); or their folder."""
    methods: tuple[str, ...] = (
        "uniform_k1", "uniform_k4", "heuristic_entropy", "learned_lambda001_target4",
    )  # fmt: skip
    """Each is trained from scratch; those that choose by token bring a random control."""
    seeds: tuple[int, ...] = (42, 123)
    num_epochs: int = 1
    max_train_batches: int = 6
    """Of an epoch."""
    max_eval_batches: int = 2
    """Of test documents, and as many of validation."""
    batch_size: int = 4
    max_length: int = 32
    """Tokens of a document: a window of a text."""
    hidden_dim: int = 32
    num_layers: int = 2
    fast_weight: Literal["linear", "mlp"] = "linear"
    tokenizer: str = "bpe"
    """bpe: byte-level, `vocab_size` tokens, trained on the training split; or a known name."""
    vocab_size: int = 4096
    test: Literal["auto", "seeds", "documents"] = "auto"
    """What p-values are corrected: over seeds where there are several (`seeds`: refuse too few to
    reach 0.05), or over every seed and document."""

    def __post_init__(self):
        check_choices(self, "methods", "seeds")
        sizes = ("num_epochs", "max_train_batches", "max_eval_batches", "batch_size")
        check_numbers(self, dict.fromkeys(sizes, 1) | {"max_length": 2, "hidden_dim": 4})
        known = (*METHODS, *CONTROLS)
        for name in self.methods:
            if name not in known:
                raise InputError(f"unknown method {name!r}: expected some of {', '.join(known)}")
        for name in ("methods", "seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise InputError(f"{name} {list(getattr(self, name))}: expected each once")
        if any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in self.seeds):
            raise InputError(f"seeds {list(self.seeds)}: expected whole numbers of 0 or more")
        check_language(self.source)
        self._check_test()
        if self.hidden_dim % min(64, self.hidden_dim // 2):
            raise InputError(
                f"hidden_dim is {self.hidden_dim}: expected an even number below 128, or a "
                "multiple of 64, the width of a head"
            )
        for name in self.methods:
            self.training().check(spec_of(name).kind)

    def _check_test(self) -> None:
        if self.test not in ("auto", "seeds", "documents"):
            raise InputError(f"unknown test {self.test!r}: expected auto, seeds or documents")
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
        together = 1 if jax.default_backend() == "cpu" else len(self.seeds)  # memory allows it
        return LanguageTrainingConfig(
            self.model(**options), steps=self.steps, batch_size=self.batch_size,
            seeds_at_once=together,
        )  # fmt: skip
