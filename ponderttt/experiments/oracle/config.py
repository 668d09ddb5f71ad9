"""Parameters of the oracle experiment."""

from dataclasses import dataclass

from ponderttt.allocation.calibration import check_curve
from ponderttt.allocation.stream import AllocationConfig, StreamName


@dataclass(frozen=True)
class OracleConfig(AllocationConfig):
    """Whose allocations to evaluate, and with which model."""

    streams: tuple[StreamName, ...] = ("mixed", "python")

    def __post_init__(self):
        super().__post_init__()
        check_curve(self.budgets, self.units)
