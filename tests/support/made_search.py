"""A small search for an update rule: its sources, its plan, and a rate beyond every cliff."""

import pytest
from support.made_source import make_sources

from ponderttt.experiments.update_rules import config as configs
from ponderttt.experiments.update_rules import search as searches
from ponderttt.experiments.update_rules.config import Plan
from ponderttt.prepare.repositories import Size, load_kinds

# As many units everywhere: programs are compiled once.
PLAN = Plan(12, 1, 1, (0, 9), ("newton_schulz_1",), (99,), (10.0,), (8,), (2,), 3, 2.0, 12)
CONFIG = {
    "sources": ("packages", "go", "leads"), "unit": 16, "units": 12, "window": 64,
    "rules": ("normalized", "adamw", "rms_sum", "rms"),
}  # fmt: skip
STAGES = ["rule", "pull", "depth", "low rank", "cadence", "steps"]


def patched(patch, plan: Plan = PLAN) -> None:
    make_sources(patch)
    patch.setitem(configs.PLANS, "smoke", plan)
    patch.setitem(searches.CENTRES, "adamw", 3e38)  # beyond every cliff


def loaded(lm, sources, split: str, *, count: int = 1, unit: int = 32, units: int = 6):
    """Repositories of the sources that are made here."""
    with pytest.MonkeyPatch.context() as patch:
        patched(patch)
        size = Size(unit, units, 2)
        return load_kinds(lm, sources, split=split, size=size, count=count, seed=0)[0]
