"""Parameters of the oracle experiment."""

from dataclasses import dataclass

from ponderttt.allocation.stream import AllocationConfig, StreamName


@dataclass(frozen=True)
class OracleConfig(AllocationConfig):
    """What to read in every way, and with which model."""

    streams: tuple[StreamName, ...] = ("mixed", "python")
