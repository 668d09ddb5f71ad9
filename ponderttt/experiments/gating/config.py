"""Parameters of the gating experiment."""

from dataclasses import dataclass

from ponderttt.allocation.calibration import check_curve
from ponderttt.allocation.stream import AllocationConfig, StreamName


@dataclass(frozen=True)
class GatingConfig(AllocationConfig):
    """Whose allocations to evaluate, and with which model; the first stream is the main one."""

    streams: tuple[StreamName, ...] = ("mixed", "shifted")

    def __post_init__(self):
        super().__post_init__()
        check_curve(self.budgets, self.units)
