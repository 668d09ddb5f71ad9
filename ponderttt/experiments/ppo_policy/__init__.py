"""Does a learned policy get more for the same price than random, gate and bandit?"""

from ponderttt.experiments.ppo_policy.config import PPOPolicyConfig as PPOPolicyConfig
from ponderttt.experiments.ppo_policy.run import derive as derive
from ponderttt.experiments.ppo_policy.run import run as run

CONFIG = PPOPolicyConfig
"""The parameters of the ppo_policy experiment; the defaults are the smoke preset."""

MEANINGS = {
    "points": (
        "a method, budget and candidate: what it cost and lost on validation and on test "
        "documents, and whether it was chosen"
    ),
    "learned": "a seed at a budget and a point of its cost curve: cost and loss",
    "frontier": (
        "a point of the oracle's curve, or an action taken on every unit: mean cost and loss"
    ),
    "documents": (
        "a test document under a method at a budget: its loss, gain and cost; `priced` is charged "
        "for cost beyond the budget"
    ),
    "gaps": (
        "a method at a budget: the share of the gap from control to oracle that it "
        "captures, with its interval and test"
    ),
    "versus": "PPO against a rival at a budget: gain at equal cost with its interval and test",
    "seeds": (
        "a seed at a budget: the share of the gap that it captures, and how it keeps the budget"
    ),
    "history": (
        "an iteration of training a seed, of those that are kept: reward, cost, multiplier "
        "and diagnostics"
    ),
    "spread": (
        "a seed: how much its violation of the budget varies over the second half of training"
    ),
    "ablated": "as documents, of policies learned without a group of features",
    "ablation": "a group of features left out: the gap captured without it, and what is lost",
    "strip": "a unit of a test document: its tokens and losses, and what seed 0 does",
    "unit_costs": "an action: what it costs a unit in each ledger",
    "tuning": (
        "a rate and clip of the adapter, its gain on training or validation documents, and "
        "whether it was chosen"
    ),
}
"""What a row of each table is."""
