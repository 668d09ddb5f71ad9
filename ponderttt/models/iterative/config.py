"""The shape of a transformer with TTT layers that is trained from scratch (`models.iterative`)."""

from dataclasses import dataclass
from typing import Literal

from ponderttt.checks import Count, Natural, NonNegative, Share, check
from ponderttt.errors import InputError
from ponderttt.types import ActionSpace

RATE_PERIOD = 16
"""The position-dependent rate starts anew after so many tokens, as in the published layer."""


@dataclass(frozen=True)
class IterativeTransformerConfig:
    """Shape, step options and the policy's objective; the defaults are the seeds'.

    Lengths are tokens; what a field's name does not say stands below it.

    Raises:
        InputError: a value that is out of its range, or that does not fit another.

    >>> IterativeTransformerConfig().actions.names
    ('K1', 'K2', 'K4', 'K8')
    """

    vocab_size: Count = 50257
    hidden_dim: Count = 512
    num_layers: Count = 6
    num_heads: Count = 8
    ffn_dim: Count = 2048
    max_length: Count = 256
    """Learned positions: the longest text that it reads."""
    ttt_layer_indices: tuple[Natural, ...] = (2, 3, 4)
    """Blocks whose attention is replaced by a TTT layer."""
    ttt_layer: Literal["iterative", "reference"] = "iterative"
    """`reference` is the published layer: one step a mini-batch of 16, whatever is decided."""
    fast_weight: Literal["linear", "mlp"] = "mlp"
    fast_weight_hidden_dim: Count = 64
    """Hidden width of the mlp fast weights of each head."""
    norm: bool = False
    """TTT-Linear's residual normalisation around the fast weights."""
    mini_batch: Count = 1
    """Tokens that share a decision; above 1 they are answered before they are learned from."""
    ttt_base_lr: NonNegative = 0.1
    rate: Literal["fixed", "position"] = "fixed"
    """`position`: `base_lr * max(0, 1/i + learned_i)`, i from 1 within 16 tokens."""
    learned_rate: bool = False
    """Let the outer loop train one factor of the inner rate for each head."""
    max_steps: Count = 8
    step_options: tuple[Natural, ...] = (1, 2, 4, 8)
    use_learned_policy: bool = True
    policy_hidden_dim: Count = 16
    policy_input: Literal["hidden", "position"] = "hidden"
    """What the halting network sees; `position` knows the place in the text and no content."""
    lambda_compute: NonNegative = 0.01
    target_avg_steps: float | None = 4.0
    """None: the penalty is `lambda_compute` times the mean steps."""
    gamma: Share = 0.99
    baseline_momentum: Share = 0.99

    def __post_init__(self):
        check(self)
        self._check_layers()
        self._check_steps()

    def _check_layers(self) -> None:
        if self.hidden_dim % self.num_heads:
            raise InputError(
                f"num_heads {self.num_heads} does not divide hidden_dim {self.hidden_dim}"
            )
        for index in self.ttt_layer_indices:
            if index >= self.num_layers:
                raise InputError(
                    f"ttt_layer_indices holds {index}: the model has blocks 0 to "
                    f"{self.num_layers - 1}"
                )
        if self.ttt_layer == "reference" and self.use_learned_policy:
            raise InputError(
                "the reference TTT layer takes one step, so there is nothing to decide: "
                "set use_learned_policy=False"
            )

    def _check_steps(self) -> None:
        options, most = self.step_options, self.max_steps
        if list(options) != sorted(options):
            raise InputError(f"step_options {list(options)}: expected them ascending")
        if options[-1] > most:
            raise InputError(
                f"step_options go up to {options[-1]}: expected at most max_steps = {most}"
            )
        target = self.target_avg_steps
        if target is not None and not options[0] <= target <= options[-1]:
            raise InputError(
                f"target_avg_steps is {target:g}: no mix of the step options {list(options)} "
                f"has that mean; expected {options[0]} to {options[-1]}, or None for no target"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_dim // self.num_heads

    @property
    def actions(self) -> ActionSpace:
        """The step options as an action space, each at the cost of its steps."""
        return token_actions(self.step_options)


def token_actions(step_options: tuple[int, ...]) -> ActionSpace:
    """K1, K2, ...: an action for each number of steps, whose nominal cost that number is."""
    names = tuple(f"K{k}" for k in step_options)
    return ActionSpace(names, tuple(step_options), tuple(float(k) for k in step_options))
