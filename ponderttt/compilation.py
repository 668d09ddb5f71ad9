"""What this process has spent on compiled programs: counted from the import of this module on."""

from typing import NamedTuple

from jax import monitoring

_DURATIONS = {
    "/jax/core/compile/backend_compile_duration": "compiled",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowered",
    "/jax/core/compile/jaxpr_trace_duration": "traced",
}
_seconds = dict.fromkeys(_DURATIONS.values(), 0.0)
_counts = {"programs": 0, "read_back": 0}


class Compilation(NamedTuple):
    """Programs, how many of them the disk had, and seconds of tracing, lowering and XLA."""

    programs: int
    read_back: int
    traced: float
    lowered: float
    compiled: float


def compilation() -> Compilation:
    """What has been compiled until now."""
    traced, lowered, compiled = (
        round(_seconds[name], 1) for name in ("traced", "lowered", "compiled")
    )
    return Compilation(_counts["programs"], _counts["read_back"], traced, lowered, compiled)


def _add_seconds(event: str, duration_secs: float, **_: str | int) -> None:
    if event in _DURATIONS:
        _seconds[_DURATIONS[event]] += duration_secs
        _counts["programs"] += _DURATIONS[event] == "compiled"


def _add_hit(event: str, **_: str | int) -> None:
    _counts["read_back"] += event == "/jax/compilation_cache/cache_hits"


monitoring.register_event_duration_secs_listener(_add_seconds)
monitoring.register_event_listener(_add_hit)
