"""The next-token objective: additive fast weights that descend the language model's loss."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ponderttt import pytree
from ponderttt.errors import InputError
from ponderttt.inner import additive, low_rank
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules import UpdateRule
from ponderttt.models.adapters.protocol import Reading, Unit, token_losses
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.types import masked_mean


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy of the unit just scored, through additive fast weights (zero at the start).

    `suffix_blocks = 0`: a map on the last hidden state, `h + W h / |h|` (or `h + B A h / |h|` with
    `rank`); the input is a unit vector, so that a rate means the same for any model.
    `suffix_blocks = m`: additions to the products named in `targets` of the last m blocks (LoRA
    with `rank`; full-rank additions to the MLP's output product as in In-Place TTT without).
    """

    rule: UpdateRule
    suffix_blocks: int = 0
    rank: int | None = None
    targets: tuple[str, ...] = ("mlp_out",)
    seed: int = 0

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
            name: self._addition((self.suffix_blocks, *shapes[name]), i)
            for i, name in enumerate(self.targets)
        }

    def _addition(self, shape: tuple[int, ...], index: int) -> Fast:
        if self.rank is None:
            return additive(shape)
        return low_rank(jax.random.key(self.seed + index), shape, self.rank)

    def view(self, lm: TransformerLM, unit: Unit) -> Unit:
        return unit

    def read(self, lm: TransformerLM, fast: Fast, view: Unit, *, learns: bool) -> Reading:
        states = partial(self._states, lm, view)
        if not learns:
            return Reading(*states(fast), None)
        hidden, pull, past = jax.vjp(states, fast, has_aux=True)
        return Reading(hidden, past, pull)

    def _states(self, lm: TransformerLM, view: Unit, fast: Fast):
        """What the head reads, and the past with this unit behind it."""
        if self.suffix_blocks:
            hidden, past = lm.read_unit(
                view.hidden[None], self.suffix_blocks, view.context, view.past, deltas=fast
            )
            return hidden[0], past
        h = view.hidden.astype(jnp.float32)
        unit = h * jax.lax.rsqrt(jnp.sum(h**2, axis=-1, keepdims=True) + 1e-12)
        added = unit @ fast["w"] if self.rank is None else unit @ fast["a"] @ fast["b"]
        return h + added, view.past

    def observed_loss(self, fast: Fast, view: Unit, token_nll: Float[Array, "U"]):
        return masked_mean(token_nll, view.mask)

    def gradient(
        self, lm: TransformerLM, fast: Fast, view: Unit, reading: Reading | None = None
    ) -> Fast:
        if reading is None:
            reading = self.read(lm, fast, view, learns=True)
        assert reading.pull is not None

        def loss(hidden):
            return masked_mean(token_losses(lm, hidden, view.tokens), view.mask)

        return reading.pull(jax.grad(loss)(reading.hidden))[0]


pytree.register(NextToken, meta_fields=["suffix_blocks", "rank", "targets", "seed"])
