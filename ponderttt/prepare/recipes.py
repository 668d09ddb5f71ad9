"""Recipes: what learns, by which rule and rate, and how often; and what that costs."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from ponderttt.evaluation.flops import (
    AdapterFlops,
    adapter_flops,
    again_flops,
    forward_flops,
    head_flops,
    orthogonalize_flops,
    suffix_flops,
)
from ponderttt.inner.update_rules import RULES, SGD, make_rule
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.parameters import projection_shapes
from ponderttt.policies import UniformPolicy

ALPHA = 128.0
"""Of low-rank additions: they are scaled by `ALPHA / rank`."""
LOW_RANK = ("q", "k", "v", "attention_out", "mlp_in", "mlp_out")
"""What low-rank additions are made to; those of full rank to the MLP's output alone."""
ITERATIONS = {
    "newton_schulz": 5, "newton_schulz_1": 1, "newton_schulz_2": 2, "newton_schulz_3": 3,
}  # fmt: skip
"""Of Newton-Schulz steps by name: fewer are cheaper, and leave small directions smaller."""


def still(suffix_blocks: int) -> NextToken:
    """What reads as the frozen base does: additions to the last blocks that stay at zero."""
    return NextToken(SGD(jnp.zeros(())), suffix_blocks=suffix_blocks)


@dataclass(frozen=True)
class Recipe:
    """Fast weights in the last `suffix_blocks` blocks (0: a map on the last state).

    `steps` steps of `rule` after every `cadence` tokens.
    """

    rule: str
    rate: float
    suffix_blocks: int
    cadence: int
    steps: int = 1
    rank: int | None = None
    pull: float | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        return LOW_RANK if self.rank and self.suffix_blocks else ("mlp_out",)

    @property
    def gathers(self) -> bool:
        """Whether the rule needs statistics of training documents."""
        return self.rule in RULES and RULES[self.rule].statistics

    def adapter(self, statistics: Any = None) -> NextToken:
        """What `rollout` reads with."""
        given: dict[str, Any] = {"statistics": statistics} if self.gathers else {}
        if self.pull is not None:
            given["pull"] = self.pull
        name = self.rule
        if name in ITERATIONS:
            name, given["iterations"] = "newton_schulz", ITERATIONS[name]
        rule = make_rule(name, self.rate, **given)
        low_rank = self.rank is not None and self.suffix_blocks > 0
        return NextToken(
            rule, suffix_blocks=self.suffix_blocks, rank=self.rank, targets=self.targets,
            alpha=ALPHA if low_rank else None,
        )  # fmt: skip

    @property
    def policy(self) -> UniformPolicy:
        """The same number of steps on every unit."""
        return UniformPolicy(f"UPDATE_{self.steps}")

    @property
    def where(self) -> str:
        """What learns."""
        if not self.suffix_blocks:
            return f"rank {self.rank}, the last state" if self.rank else "the last state"
        blocks = f"{self.suffix_blocks} block{'s' * (self.suffix_blocks > 1)}"
        return f"rank {self.rank}, {blocks}" if self.rank else f"MLP outputs, {blocks}"

    @property
    def label(self) -> str:
        """In a few words."""
        steps = f"{self.steps} steps" if self.steps > 1 else "a step"
        pull = f", pull {self.pull:g}" if self.pull is not None else ""
        return f"{self.rule} {self.rate:g}{pull}; {self.where}; {steps} per {self.cadence}"

    def flops(self, config: DecoderConfig, window: float) -> AdapterFlops:
        """FLOPs a token: of reading through the fast weights, and of all its steps together.

        `window` is how many keys a query meets: `keys_met` says that of documents.
        """
        blocks, head = self.suffix_blocks, head_flops(config)
        if not blocks:
            read, step = adapter_flops(config, rank=self.rank)
            again = head + read
            first = step - again  # whose scoring kept its forward
        else:
            read, first = suffix_flops(
                config, window, blocks, unit=self.cadence, targets=self.targets, rank=self.rank
            )
            again = again_flops(config, window, blocks) + read
        matrices = sum(self._orthogonalized(config)) / self.cadence
        return AdapterFlops(read, self.steps * (first + matrices) + (self.steps - 1) * again)

    def _orthogonalized(self, config: DecoderConfig) -> list[float]:
        """FLOPs a step of the matrices that Newton-Schulz makes orthogonal."""
        if self.rule not in ITERATIONS:
            return []
        shapes = [(config.width, config.width)]
        if self.suffix_blocks:
            shapes = [projection_shapes(config)[name] for name in self.targets]
        if self.rank:
            shapes = [(side, self.rank) for shape in shapes for side in shape]
        each = [orthogonalize_flops(*shape, ITERATIONS[self.rule]) for shape in shapes]
        return each * max(1, self.suffix_blocks)

    def check(self, lm: TransformerLM) -> None:
        """An `InputError` where the model has not so many blocks, or none that is so wide."""
        lm.check_suffix(self.suffix_blocks)
        jax.eval_shape(replace(self, rule="sgd", pull=None).adapter().init, lm)

    def share(self, config: DecoderConfig, window: float) -> float:
        """What it adds to a forward pass at so many keys a query, as a share of that pass."""
        return sum(self.flops(config, window)) / forward_flops(config, window)
