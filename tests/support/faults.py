"""How many inputs a property test of faults tries: a sample, or all with `-m faults`."""

from hypothesis import HealthCheck, settings

FULL = False
"""Set by conftest before any test is read."""


def examples(full: int, sample: int) -> settings:
    """The settings of a test that tries `full` inputs where faults are asked for."""
    unchecked = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=full if FULL else sample, deadline=None, suppress_health_check=unchecked
    )
