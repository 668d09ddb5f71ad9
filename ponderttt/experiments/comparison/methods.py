"""The eight methods of the comparison, and the controls that tell what their results mean."""

import math
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from ponderttt.errors import InputError
from ponderttt.policies.thresholds import DEFAULT_MIX
from ponderttt.training.language import Kind, StepChoice


@dataclass(frozen=True)
class Spec:
    """How a method decides: `mixture` over K1 K2 K4 K8, or `weight` and `target` of the penalty.

    A mixture is one for all, or one for each seed and TTT layer [S, L, A]; `shared`: drawn once for
    all TTT layers. `model` are options of the transformer that only this method has.
    """

    kind: Kind
    mixture: Any = DEFAULT_MIX
    weight: float = 0.0
    target: float | None = None
    shared: bool = False
    model: dict[str, Any] = field(default_factory=dict)

    def method(self, seeds: int, layers: int) -> StepChoice:
        """The arrays that tell it apart from other methods of its kind, for so many seeds."""
        mixture = jnp.asarray(self.mixture, jnp.float32)
        if mixture.ndim == 1:
            mixture = mixture[None, None]
        target = math.nan if self.target is None else self.target
        return StepChoice(
            jnp.broadcast_to(mixture, (seeds, layers, mixture.shape[-1])),
            jnp.full(seeds, self.weight, jnp.float32),
            jnp.full(seeds, target, jnp.float32),
            jnp.full(seeds, self.shared),
        )

    def control(self, mixture: Any) -> "Spec":
        """Its random control: as many steps of each kind, drawn as its own are laid out."""
        return Spec("mixture", mixture, shared=self.kind != "learned", model=self.model)

    @property
    def controlled(self) -> bool:
        """Whether a random control stands beside it: it takes one option at each token, by what
        is read. (Of an expectation the same K for all tokens is the control.)
        """
        return self.kind not in ("mixture", "expected")


def _always(option: int) -> tuple[float, ...]:
    return tuple(float(i == option) for i in range(4))


METHODS = {
    "uniform_k1": Spec("mixture", _always(0)),
    "uniform_k2": Spec("mixture", _always(1)),
    "uniform_k4": Spec("mixture", _always(2)),
    "uniform_k8": Spec("mixture", _always(3)),
    "heuristic_entropy": Spec("entropy"),
    "learned_lambda001_target4": Spec("learned", weight=0.01, target=4.0),
    "learned_lambda005_target4": Spec("learned", weight=0.05, target=4.0),
    "learned_lambda001_notarget": Spec("learned", weight=0.01),
}
"""The suite that the project was asked for."""

SUITE = tuple(METHODS)

CONTROLS = {
    # Every token's K drawn alike, from all four: what the policies start as.
    "random": Spec("mixture", (0.25, 0.25, 0.25, 0.25)),
    # The same objective without a draw: the fast weights' expectation over K, exactly.
    "expected_lambda001_target4": Spec("expected", weight=0.01, target=4.0),
    "expected_lambda001_notarget": Spec("expected", weight=0.01),
    # A policy that knows the place in the text and nothing of what is read.
    "position_lambda001_target4": Spec(
        "learned", weight=0.01, target=4.0, model={"policy_input": "position"}
    ),
    # One step, whose size the outer loop may choose: all that more steps are, in closed form.
    "uniform_k1_learned_rate": Spec("mixture", _always(0), model={"learned_rate": True}),
    "heuristic_loss": Spec("loss"),
    "heuristic_gradient_norm": Spec("gradient_norm"),
    "heuristic_perplexity": Spec("perplexity"),
}

RANDOM = "random_as_"
"""Before a method's name: its random control."""


def check_method(name: str) -> None:
    """An `InputError` unless `name` is a method or control."""
    if name not in METHODS | CONTROLS:
        known = ", ".join(METHODS | CONTROLS)
        raise InputError(f"unknown method {name!r}: expected some of {known}")


def spec_of(name: str) -> Spec:
    """The method or control called `name`."""
    return METHODS[name] if name in METHODS else CONTROLS[name]


def order_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """`names`, and each one's random control behind it."""
    found: list[str] = []
    for name in names:
        found.append(name)
        if spec_of(name).controlled:
            found.append(RANDOM + name)
    return tuple(found)
