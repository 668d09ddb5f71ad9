"""The peak memory of the process that asks."""

from pathlib import Path


def peak_megabytes() -> float:
    """The most memory that this process has held so far, in MB."""
    # Not getrusage: its peak is inherited from the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024
