"""What the page calls the methods, and on which colour it shows them."""

from ponderttt.experiments.comparison.methods import RANDOM, spec_of
from ponderttt.report.display import renderer

FAMILIES = {
    "the same K everywhere": renderer.GREY,
    "random": renderer.ORANGE,
    "heuristic": renderer.GREEN,
    "learned (REINFORCE)": renderer.BLUE,
    "exact expectation": renderer.PURPLE,
}
AGAINST = {
    "random": "the same steps at random tokens",
    "uniform_k4": "K = 4 everywhere",
}
STEPS = {1: renderer.GREY, 2: renderer.SKY, 4: renderer.GREEN, 8: renderer.VERMILION}


def family(name: str) -> str:
    """The family that a method belongs to."""
    if name.startswith(RANDOM) or name == "random":
        return "random"
    kind = spec_of(name).kind
    known = {"mixture": "the same K everywhere", "learned": "learned (REINFORCE)"}
    return known.get(kind, "exact expectation" if kind == "expected" else "heuristic")


def label(name: str) -> str:
    """`random as <method>` for a random control, and a method's own name."""
    return name.replace(RANDOM, "random as ")
