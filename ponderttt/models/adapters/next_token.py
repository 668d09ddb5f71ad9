"""The next-token objective: additive fast weights that descend the language model's loss."""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ponderttt import pytree
from ponderttt.checks import shown
from ponderttt.errors import InputError
from ponderttt.inner import additive, low_rank
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules import UpdateRule
from ponderttt.models.adapters.protocol import Unit, UnitOutput, token_losses
from ponderttt.models.decoder.decoder import Context
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.windowed_attention import Past
from ponderttt.types import masked_mean

MOST_RANK = 256
"""Of low-rank additions; above it, full rank costs little more."""


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy of the unit just scored, through additive fast weights (zero at the start).

    `suffix_blocks = 0`: a map on the last hidden state, `h + W h / |h|` (or `h + B A h / |h|` with
    `rank`); the input is a unit vector, so that a rate means the same for any model.
    `suffix_blocks = m`: additions to the products named in `targets` of the last m blocks (LoRA
    with `rank`; full-rank additions to the MLP's output product as in In-Place TTT without).
    `alpha` scales low-rank additions by `alpha / rank`, None by 1.
    """

    rule: UpdateRule
    suffix_blocks: int = 0
    rank: int | None = None
    alpha: float | Float[Array, ""] | None = None
    targets: tuple[str, ...] = ("mlp_out",)
    seed: int = 0

    def __post_init__(self):
        if type(self.suffix_blocks) is not int or self.suffix_blocks < 0:
            raise InputError(f"suffix_blocks is {shown(self.suffix_blocks)}: expected 0 or more")
        self._check_targets()
        self._check_rank()

    def _check_targets(self) -> None:
        if not self.targets:
            raise InputError("targets is empty: expected the projections that are added to")
        for i, name in enumerate(self.targets):
            if name in self.targets[:i]:
                raise InputError(f"targets holds {name!r} twice: expected each once")
        if self.targets != ("mlp_out",) and not self.suffix_blocks:
            raise InputError(
                "targets name products of the last blocks: give suffix_blocks= too, or leave them "
                "out"
            )

    def _check_rank(self) -> None:
        known = type(self.rank) is int and 1 <= self.rank <= MOST_RANK
        if self.rank is not None and not known:
            raise InputError(
                f"rank is {shown(self.rank)}: expected a whole number of 1 to {MOST_RANK}, or None "
                "for full rank"
            )
        if self.alpha is None:
            return
        if self.rank is None:
            raise InputError("alpha scales low-rank additions: give rank= too, or leave it out")
        if not isinstance(self.alpha, jax.core.Tracer) and not 0 < float(self.alpha) < math.inf:
            raise InputError(f"alpha is {shown(self.alpha)}: expected a finite number above 0")

    @property
    def objective(self) -> str:
        return "next_token"

    def init(self, lm: TransformerLM) -> Fast:
        width = lm.config.width
        if not self.suffix_blocks:
            return self._addition((width, width), 0)
        shapes = lm.projection_shapes()
        unknown = sorted(set(self.targets) - set(shapes))
        if unknown:
            raise InputError(f"unknown projection {unknown[0]!r}: expected {', '.join(shapes)}")
        return {
            name: self._addition((self.suffix_blocks, *shapes[name]), i, name)
            for i, name in enumerate(self.targets)
        }

    def _addition(self, shape: tuple[int, ...], index: int, name: str = "the last state") -> Fast:
        if self.rank is None:
            return additive(shape)
        if self.rank > min(shape[-2:]):
            raise InputError(
                f"rank is {self.rank}: {name} takes {shape[-2]} inputs to {shape[-1]} outputs, "
                f"expected at most {min(shape[-2:])}"
            )
        return low_rank(jax.random.key(self.seed + index), shape, self.rank)

    def view(self, lm: TransformerLM, unit: Unit) -> Unit:
        return unit

    def read(self, lm: TransformerLM, fast: Fast, view: Unit, *, learns: bool) -> UnitOutput:
        states = partial(self._states, lm, view)
        if not learns:
            hidden, past = states(fast)
            return UnitOutput(hidden, past, None)
        hidden, pull, past = jax.vjp(states, fast, has_aux=True)
        return UnitOutput(hidden, past, pull)

    def _states(self, lm: TransformerLM, view: Unit, fast: Fast):
        """What the head reads, and the past with this unit behind it."""
        if self.suffix_blocks:
            assert isinstance(view.context, Context) and isinstance(view.past, Past)
            deltas = {name: self._scaled(fast[name]) for name in self.targets}
            hidden, past = lm.read_unit(
                view.hidden[None], self.suffix_blocks, view.context, view.past, deltas=deltas
            )
            return hidden[0], past
        h = view.hidden.astype(jnp.float32)
        unit = h * jax.lax.rsqrt(jnp.sum(h**2, axis=-1, keepdims=True) + 1e-12)
        if self.rank is None:
            return h + unit @ fast["w"], view.past
        return h + unit @ fast["a"] @ self._scaled(fast)["b"], view.past

    def _scaled(self, addition: Fast) -> Fast:
        """One addition with `alpha / rank` in it."""
        if self.rank is None or self.alpha is None:
            return addition
        return {**addition, "b": addition["b"] * (self.alpha / self.rank)}

    def observed_loss(self, fast: Fast, view: Unit, token_nll: Float[Array, "U"]):
        return masked_mean(token_nll, view.mask)

    def gradient(
        self, lm: TransformerLM, fast: Fast, view: Unit, reading: UnitOutput | None = None
    ) -> Fast:
        if reading is None:
            reading = self.read(lm, fast, view, learns=True)
        assert reading.pull is not None

        if reading.slope is not None:
            return reading.pull(reading.slope)[0]

        def loss(hidden):
            return masked_mean(token_losses(lm, hidden, view.tokens), view.mask)

        return reading.pull(jax.grad(loss)(reading.hidden))[0]


pytree.register(NextToken, meta_fields=["suffix_blocks", "rank", "targets", "seed"])
