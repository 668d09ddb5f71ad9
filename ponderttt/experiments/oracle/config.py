"""Parameters of the oracle experiment."""

from dataclasses import dataclass

from ponderttt.experiments.allocation import AllocationConfig


@dataclass(frozen=True)
class OracleConfig(AllocationConfig):
    """What to read in every way, and with which model."""

    streams: tuple[str, ...] = ("mixed", "python")
