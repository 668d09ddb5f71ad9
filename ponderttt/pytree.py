"""Dataclasses as pytrees that no other class is taken for."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import jax
from jax.tree_util import GetAttrKey

T = TypeVar("T")


def register(kind: type[T], *, meta_fields: Sequence[str] = ()) -> type[T]:
    """Register the dataclass `kind`: its fields are children, those of `meta_fields` static.

    In place of `jax.tree_util.register_dataclass`, whose structures (JAX 0.10.2) are equal for two
    classes with the same fields and static values, though their hashes differ. Where the hashes
    meet in a table, in some processes and not in others, a jitted function runs what it compiled
    for the other class.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    children = [name for name in names if name not in meta_fields]

    def flatten(node: T) -> tuple[tuple, tuple]:
        leaves = tuple(getattr(node, name) for name in children)
        return leaves, tuple(getattr(node, name) for name in meta_fields)

    def flatten_with_keys(node: T) -> tuple[tuple, tuple]:
        leaves, static = flatten(node)
        return tuple(zip(map(GetAttrKey, children), leaves, strict=True)), static

    def unflatten(static: tuple, leaves: Iterable[Any]) -> T:
        # JAX also puts in axes, None and markers: what checks a field has to be left out.
        node = object.__new__(kind)
        for name, value in zip([*meta_fields, *children], [*static, *leaves], strict=True):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(kind, flatten_with_keys, unflatten, flatten)
    return kind
