"""Parameters of the oracle experiment."""

from dataclasses import dataclass
from typing import Any

from ponderttt.allocation.calibration import check_curve
from ponderttt.allocation.stream import AllocationConfig, StreamName
from ponderttt.checks import Count
from ponderttt.experiments.token_oracle.run import TokenOracleConfig

LARGER = {
    "batch_size": 8, "max_length": 128, "hidden_dim": 64, "num_layers": 4, "horizon": 32,
}  # fmt: skip
"""As the published comparison's."""


@dataclass(frozen=True)
class OracleConfig(AllocationConfig):
    """Whose allocations to evaluate, with which model; and what the oracle of tokens is asked."""

    streams: tuple[StreamName, ...] = ("mixed", "python")
    token_batches: Count = 2
    """Batches of test documents of the small model whose single tokens are tried at every K."""
    sample_positions: Count = 8
    """Tokens of each."""
    token_steps: Count = 6
    """Training steps of that model."""

    def __post_init__(self):
        super().__post_init__()
        check_curve(self.budgets, self.units)
        self.tokens()

    def tokens(self) -> TokenOracleConfig:
        """The oracle of single tokens; a model that is trained for longer is a larger one."""
        size: dict[str, Any] = {} if self.token_steps < 50 else LARGER
        return TokenOracleConfig(
            max_batches=self.token_batches, sample_positions=self.sample_positions,
            train_steps=self.token_steps, seed=self.seed, **size,
        )  # fmt: skip
