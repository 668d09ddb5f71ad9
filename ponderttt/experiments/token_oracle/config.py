"""Parameters of the token oracle; the defaults are the smoke preset."""

from dataclasses import dataclass
from typing import Annotated

from ponderttt.checks import Bounds, Count, Seed, check
from ponderttt.errors import InputError
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.prepare.inputs import LanguageName


@dataclass(frozen=True)
class TokenOracleConfig:
    """How a model is trained (K drawn at random, so that it has seen all) and where it is asked."""

    source: LanguageName = "wikipedia"
    """wikipedia (from wheels); wikitext-2, wikitext-103, ptb (from the hub); or their folder."""
    train_steps: Count = 6
    batch_size: Count = 4
    """Documents of a batch, in training and in test."""
    max_length: Count = 48
    """Tokens of a document: a window of a text."""
    hidden_dim: Count = 32
    num_layers: Annotated[int, Bounds(1, 1000)] = 3
    max_batches: Count = 2
    """Of test documents."""
    sample_positions: Count = 8
    """Of each document."""
    horizon: Count = 16
    """Predictions that a position's steps are judged by, its own the first."""
    seed: Seed = 0

    def __post_init__(self):
        check(self)
        if 1 + self.sample_positions + self.horizon > self.max_length:
            raise InputError(
                f"{self.sample_positions} positions with a horizon of {self.horizon} tokens do "
                f"not fit into {self.max_length} tokens: expected fewer, or a longer max_length"
            )
        self.training()

    def training(self) -> ComparisonConfig:
        """The comparison's settings for this model."""
        return ComparisonConfig(
            source=self.source, methods=("random",), seeds=(self.seed,),
            max_train_batches=self.train_steps, max_eval_batches=self.max_batches,
            batch_size=self.batch_size, max_length=self.max_length, hidden_dim=self.hidden_dim,
            num_layers=self.num_layers,
        )  # fmt: skip
