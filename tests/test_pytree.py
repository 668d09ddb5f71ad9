"""Dataclasses as pytrees: one class is never taken for another."""

import itertools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest
from jax.tree_util import keystr

from ponderttt import pytree
from ponderttt.policies import RandomPolicy, SchedulePolicy
from ponderttt.policies.thresholds import HEURISTICS


@dataclass(frozen=True)
class Twice:
    """A number to be doubled."""

    name: str
    x: object


@dataclass(frozen=True)
class Thrice(Twice):
    """The same fields, another class."""


for kind in (Twice, Thrice):
    pytree.register(kind, meta_fields=["name"])


def test_leaves_are_named_and_come_back():
    node = Twice("a", {"w": jnp.ones(2), "b": None})
    (leaf,) = jax.tree_util.tree_leaves_with_path(node)
    assert keystr(leaf[0]) == ".x['w']"
    doubled = jax.tree.map(lambda x: 2 * x, node)
    assert isinstance(doubled, Twice) and doubled.name == "a" and (doubled.x["w"] == 2).all()


def test_class_and_static_values_are_part_of_the_structure():
    structure = jax.tree.structure(Twice("a", 1.0))
    assert structure == jax.tree.structure(Twice("a", 2.0))
    assert structure != jax.tree.structure(Twice("b", 1.0))
    assert structure != jax.tree.structure(Thrice("a", 1.0))


def test_what_jit_compiled_for_one_class_is_not_run_for_another():
    traced = []

    @jax.jit
    def times(node):
        traced.append(type(node))
        return node.x * {Twice: 2, Thrice: 3}[type(node)]

    node = Twice("a", jnp.asarray(1.0))
    assert times(node) == times(replace(node, x=jnp.asarray(1.0))) == 2
    assert times(Thrice("a", jnp.asarray(1.0))) == 3
    assert traced == [Twice, Thrice]


@pytest.mark.parametrize(
    "kinds", [tuple(HEURISTICS.values()), (RandomPolicy, SchedulePolicy)], ids=["signals", "drawn"]
)
def test_policies_with_the_same_fields_have_other_structures(kinds):
    for one, other in itertools.combinations(kinds, 2):
        nodes = [kind(jnp.ones((2, 3) if kind is SchedulePolicy else 3)) for kind in (one, other)]
        assert jax.tree.structure(nodes[0]) != jax.tree.structure(nodes[1])
