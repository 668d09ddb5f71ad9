"""What reading one unit takes, whatever walks the document: its view, its score, what is carried.

`rollout` goes through a document once, `tree` and `beam` along many allocations: all through here.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ponderttt.errors import InputError
from ponderttt.inner.fast_weights import Fast
from ponderttt.inner.update_rules import RuleState
from ponderttt.models.adapters.protocol import Adapter, Unit, UnitOutput, token_losses
from ponderttt.models.decoder.hidden import contexts, hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.models.head import HeadStatistics, head_statistics
from ponderttt.models.windowed_attention import Past
from ponderttt.types import Documents, masked_mean

Reset = Literal["repository", "file"]
"""Where fast weights start afresh: with each document, or with each of its files."""


class Text(NamedTuple):
    """Documents as they are read; without the axis B: one of them."""

    tokens: Int[Array, "*B N U"]
    mask: Bool[Array, "*B N U"]
    hidden: Float[Array, "*B N U D"]
    places: Int[Array, "*B N"]
    """Units of its own attention context before each unit."""
    resets: Bool[Array, "*B N"] | None
    """Whether a unit is met with fresh fast weights; None: the first alone."""
    first: Int[Array, "*B"]
    """The unit of the document that tokens, mask and states begin with: 0, or a part's first."""


class Learned(NamedTuple):
    """What the model itself carries from unit to unit."""

    fast: Fast
    rule: RuleState
    past: Past | tuple[()]
    """What the suffix blocks have read, as they read it."""


def open_text(
    lm: TransformerLM,
    adapter: Adapter,
    documents: Documents,
    hidden: Any,
    window: Window | None,
    reset: Reset = "repository",
    units: range | None = None,
) -> tuple[Text, Window]:
    """`documents` with the states that `adapter` reads (computed where None is given).

    `window` None: one unit, which sees no other. Of a part, only its `units` go to the device.
    States of another shape, and positions that the model's suffix blocks cannot have, are an
    `InputError`.
    """
    unit = documents.tokens.shape[-1]
    window = Window.of_unit(unit) if window is None else window
    window.check(lm.config, unit)
    if reset not in get_args(Reset):
        raise InputError(f"unknown reset {reset!r}: expected {' or '.join(get_args(Reset))}")
    places = window.places(documents)
    if adapter.suffix_blocks and not lm.config.rotary_dim:
        if (int(places.max()) + 1) * unit > window.tokens:
            raise InputError(
                f"{lm.name} has learned positions: its last blocks read a file of "
                f"{(int(places.max()) + 1) * unit} tokens in windows that do not overlap; give "
                "overlap=False, or suffix_blocks = 0"
            )
    if hidden is None:
        hidden = hidden_states(lm, documents, window=window, suffix_blocks=adapter.suffix_blocks)
    if tuple(hidden.shape[:3]) != tuple(documents.tokens.shape):
        raise InputError(
            f"hidden states of shape {tuple(hidden.shape)} do not belong to documents of shape "
            f"{tuple(documents.tokens.shape)}: expected [B, N, U, D]"
        )
    resets = jnp.asarray(documents.places == 0) if reset == "file" else None
    held, first = (documents.tokens, documents.mask, hidden), 0
    if units is not None:
        held, first = tuple(x[:, units.start : units.stop] for x in held), units.start  # type: ignore[assignment]
    tokens, mask, hidden = held
    begins = jnp.asarray(np.full(len(places), first, np.int32))
    return Text(tokens, mask, jnp.asarray(hidden), jnp.asarray(places), resets, begins), window


def begin(lm: TransformerLM, adapter: Adapter, window: Window, unit: int) -> Learned:
    """What is carried into a document's first unit."""
    fast = adapter.init(lm)
    past = lm.no_past(adapter.suffix_blocks, window, unit) if adapter.suffix_blocks else ()
    return Learned(fast, adapter.rule.init(fast), past)


def views(
    lm: TransformerLM, adapter: Adapter, text: Text, window: Window
) -> Callable[[Int[Array, ""], Past | tuple[()]], Any]:
    """What the adapter sees of unit n of one document behind a past."""
    unit = text.tokens.shape[-1]
    context = contexts(lm, text.places, unit, window) if adapter.suffix_blocks else lambda n: ((),)

    def view(n, past):
        at = n - text.first
        states = jax.lax.dynamic_index_in_dim(text.hidden, at, keepdims=False)
        return adapter.view(lm, Unit(states, text.tokens[at], text.mask[at], context(n)[0], past))

    return view


def score(
    lm: TransformerLM,
    reading: UnitOutput,
    tokens: Int[Array, "U"],
    mask: Bool[Array, "U"],
    with_entropy: bool,
) -> HeadStatistics:
    """One unit's losses as it was read, 0 on padding; without `with_entropy`, entropies are NaN."""
    hidden = reading.hidden
    if with_entropy:
        scored = head_statistics(hidden.astype(lm.head.dtype), lm.head, tokens)
        return scored._replace(nll=jnp.where(mask, scored.nll, 0.0))
    return _known(token_losses(lm, hidden, tokens), mask)


def score_with_slope(
    lm: TransformerLM, reading: UnitOutput, tokens: Int[Array, "U"], mask: Bool[Array, "U"]
) -> tuple[HeadStatistics, UnitOutput]:
    """`score`, and the unit as it was read with its `slope`, in the same pass over the head."""

    def loss(hidden):
        nll = token_losses(lm, hidden, tokens)
        return masked_mean(nll, mask), nll

    slope, nll = jax.grad(loss, has_aux=True)(reading.hidden)
    return _known(nll, mask), reading._replace(slope=slope)


def _known(nll: Float[Array, "U"], mask: Bool[Array, "U"]) -> HeadStatistics:
    """Of the losses alone."""
    unknown = jnp.full(nll.shape, jnp.nan)
    return HeadStatistics(jnp.where(mask, nll, 0.0), unknown, unknown)
