"""Orbax checkpoints: atomic, the last two kept, restored bit for bit."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ponderttt import cache
from ponderttt.errors import InputError
from ponderttt.storage import commit, writable_folder


@contextmanager
def _manager(folder: Path | str) -> Iterator[Any]:
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    manager = ocp.CheckpointManager(writable_folder(folder).resolve(), options=options)
    try:
        yield manager
    finally:
        manager.close()


class Restored(NamedTuple):
    """A checkpoint that was read back: the steps taken until it, its arrays, and their seconds."""

    step: int
    tree: Any
    seconds: float


def save_checkpoint(folder: Path | str, step: int, tree: Any, *, seconds: float) -> None:
    """Write the arrays of `tree`, trained in `seconds`, as checkpoint `step` of `folder`."""
    import orbax.checkpoint as ocp

    origin = cache.Origin(commit(), round(seconds, 3))
    with _manager(folder) as manager:
        manager.save(step, args=ocp.args.StandardSave(tree), custom_metadata=origin._asdict())
        manager.wait_until_finished()
    cache.note(Path(folder), None)


def restore_checkpoint(folder: Path | str, like: Any) -> Restored | None:
    """The newest checkpoint of `folder`, shaped as `like`; None if there is none.

    It is entered into the cache's ledger. A checkpoint that cannot be read, or that holds other
    shapes, is an `InputError`.
    """
    import orbax.checkpoint as ocp

    if not Path(folder).is_dir():
        return None
    with _manager(folder) as manager:
        step = manager.latest_step()
        if step is None:
            return None
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            tree = manager.restore(step, args=ocp.args.StandardRestore(template))
            origin = cache.Origin(**manager.metadata(step).custom_metadata)
        except Exception as error:  # orbax raises what its storage layer raises
            raise InputError(
                f"checkpoint {Path(folder) / str(step)} cannot be restored "
                f"({type(error).__name__}): expected one written by this version with the same "
                "configuration; delete that folder to go on from the one before it"
            ) from error
    cache.note(Path(folder), origin)
    return Restored(step, tree, origin.seconds)
