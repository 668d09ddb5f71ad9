"""The one loop over text: predict a unit, observe, decide, adapt; then the next unit.

Score first: the loss of record of a unit is that of the fast weights it found.
"""

from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ponderttt.environment.reading import (
    Learned,
    Reset,
    begin,
    open_text,
    score,
    score_with_slope,
    views,
)
from ponderttt.errors import InputError
from ponderttt.inner.descent import DISPATCHES, Dispatch, Order, descend
from ponderttt.inner.update_rules import global_norm
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.models.head import HeadStatistics
from ponderttt.policies import FeatureExtractor, Policy
from ponderttt.types import Documents, Episode, Observation, masked_mean


class Carry(NamedTuple):
    """What one unit hands to the next."""

    learned: Learned
    policy: Any
    memory: Any
    spent: Float[Array, ""]
    token_nll: Float[Array, "U"]


def rollout(
    lm: TransformerLM,
    adapter: Adapter,
    policy: Policy,
    documents: Documents,
    *,
    key: Key[Array, "*B"],
    dispatch: Dispatch = "masked",
    window: Window | None = None,
    reset: Reset = "repository",
    hidden: Float[Array | np.ndarray, "B N U D"] | None = None,
    order: Order = "predict_first",
    extractor: FeatureExtractor | None = None,
    described: Float[Array | np.ndarray, "B N described"] | None = None,
    state: Any = None,
) -> Episode:
    """Read `documents` unit by unit under `policy`; fast weights start afresh in each document.

    `window` is how far back the base attends (default: within the unit), `hidden` its states if
    they are cached (those before the adapter's suffix blocks); `reset` says whether fast weights
    start afresh with each of a document's files too. `masked` vmaps documents and pays the
    policy's largest K everywhere; `switch` reads one document at a time and runs only the steps
    that are taken. Both give the same numbers to 1e-5. `adapt_first` (the order of the TTT
    literature) is causal for units of one token under `reconstruction` only; an `InputError`
    otherwise. A padded unit takes no step and costs nothing. `extractor` makes the features of
    each unit, from what `features.describe` says of the documents. `key` is one for all documents,
    or one for each.

    The policy's state is carried in the documents' order: a policy that follows the stream reads
    them one after another under either dispatch. `state` goes on where another rollout ended (its
    `final_state`); by default the stream starts here.
    """
    _check(adapter, documents.tokens.shape[-1], dispatch, order)
    _check_features(policy, documents, extractor, described, order)
    text, window = open_text(lm, adapter, documents, hidden, window, reset)
    return _read_documents(
        lm, adapter, policy, extractor, text, described,
        document_keys(key, documents.tokens.shape[0]), state,
        dispatch=dispatch, window=window, order=order,
    )  # fmt: skip


def read_part(
    lm: TransformerLM,
    adapter: Adapter,
    policy: Policy,
    document: Documents,
    *,
    key: Key[Array, ""],
    units: range,
    carry: Carry | None = None,
    dispatch: Dispatch = "switch",
    window: Window | None = None,
    reset: Reset = "repository",
    hidden: Float[Array | np.ndarray, "B N U D"] | None = None,
) -> tuple[Episode, Carry]:
    """The episode of some `units` of one document, and what is carried behind them.

    With the carry of the part before it, part after part is the `rollout` of the whole, bit for
    bit: a long document can be read, kept and gone on with.
    """
    if len(document.tokens) != 1:
        raise InputError(f"{len(document.tokens)} documents: expected one, of which a part is read")
    _check(adapter, document.tokens.shape[-1], dispatch, "predict_first")
    _check_features(policy, document, None, None, "predict_first")
    if (units.start != 0) != (carry is not None):
        raise InputError(f"units from {units.start}: a part begins at 0, or with a carry=")
    text, window = open_text(lm, adapter, document, hidden, window, reset, units)
    return _read_part(
        lm, adapter, policy, text, document_keys(key, 1), carry, jnp.asarray(np.asarray(units)),
        dispatch=dispatch, window=window,
    )  # fmt: skip


def document_keys(key: Key[Array, "*B"], count: int) -> Key[Array, "documents"]:
    """One key for each of `count` documents: `key` itself where it holds so many."""
    if key.ndim and key.shape != (count,):
        raise InputError(f"keys of shape {key.shape} for {count} documents: expected one for each")
    return key if key.ndim else jax.random.split(key, count)


def start_state(policy: Policy, keys: Key[Array, "B"]) -> Any:
    """The policy's state at the start of a stream whose documents have these keys."""
    return jax.tree.map(jnp.asarray, policy.init(jax.random.split(keys[0])[0]))


def _check(adapter: Adapter, unit: int, dispatch: str, order: str) -> None:
    if dispatch not in DISPATCHES:
        raise InputError(f"unknown dispatch {dispatch!r}: expected one of {', '.join(DISPATCHES)}")
    if order not in get_args(Order):
        raise InputError(f"unknown order {order!r}: expected {' or '.join(get_args(Order))}")
    if order == "adapt_first" and unit > 1:
        raise InputError(
            f"adapt_first with units of {unit} tokens would predict a token from itself: "
            "use predict_first, or units of one token"
        )
    if order == "adapt_first" and adapter.objective == "next_token":
        raise InputError(
            "adapt_first with the next_token objective would predict a token from itself: "
            "use predict_first, or the reconstruction objective"
        )


def _check_features(policy: Policy, documents: Documents, extractor, described, order: str) -> None:
    if order == "adapt_first" and (policy.needs or extractor is not None):
        raise InputError(
            "adapt_first decides before the unit is scored: signals and features need predict_first"
        )
    if extractor is None and "features" in policy.needs:
        raise InputError(
            f"{type(policy).__name__} decides by features: give rollout extractor= and described="
        )
    if (extractor is None) != (described is None):
        raise InputError("features take both extractor= and described=, or neither")
    if described is not None and tuple(described.shape[:2]) != tuple(documents.tokens.shape[:2]):
        raise InputError(
            f"described has shape {tuple(described.shape)}: expected [B, N, features] with B, N = "
            f"{tuple(documents.tokens.shape[:2])}"
        )


def _read_document(
    lm, adapter, policy, extractor, inputs, carry, units, *, dispatch, window, order, n_units
) -> tuple[Carry, Episode]:
    """The `units` of one document, from what is carried -> an Episode without its B axis."""
    text, described, key = inputs
    steps_of, cost_of = jnp.asarray(policy.actions.steps), jnp.asarray(policy.actions.costs)
    unit_key = jax.random.split(key)[1]
    view_of = views(lm, adapter, text, window)
    unknown = jnp.full((), jnp.nan)
    with_entropy = extractor is not None or "entropy" in policy.needs
    learns = policy.max_steps > 0 or "gradient_norm" in policy.needs
    at_once = learns and policy.least_steps > 0 and not with_entropy
    rule, gradient = adapter.rule, partial(adapter.gradient, lm)

    def read_unit(carry: Carry, n):
        tokens, mask = text.tokens[n - text.first], text.mask[n - text.first]
        fast, rule_state = _found(lm, adapter, text, n, carry.learned)
        view = view_of(n, carry.learned.past)
        known, token_nll, past, first = None, carry.token_nll, carry.learned.past, None
        if order == "predict_first":
            reading = adapter.read(lm, fast, view, learns=learns)
            if at_once:
                known, reading = score_with_slope(lm, reading, tokens, mask)
            else:
                known = score(lm, reading, tokens, mask, with_entropy)
            token_nll, past = known.nll, reading.past
            first = partial(gradient, fast, view, reading) if reading.pull else None
        seen = Observation(
            n, token_nll, mask, masked_mean(token_nll, mask),
            adapter.observed_loss(fast, view, token_nll), carry.spent,
            unknown, unknown, jnp.zeros(0),
        )  # fmt: skip
        if "gradient_norm" in policy.needs:
            known_gradient = first() if first else gradient(fast, view)
            seen = seen._replace(gradient_norm=global_norm(known_gradient))
            first = partial(lambda known: known, known_gradient)
        seen, memory = _with_features(extractor, carry.memory, seen, known, described, n_units)
        decision, policy_state = policy.act(carry.policy, seen, jax.random.fold_in(unit_key, n))
        real = jnp.any(mask)
        steps = jnp.where(real, steps_of[decision.action], 0)
        cost = jnp.where(real, cost_of[decision.action], 0.0)
        fast, rule_state, norm = descend(
            fast, view, steps, rule=rule, state=rule_state, gradient=gradient, first=first,
            max_steps=policy.max_steps, dispatch=dispatch,
        )  # fmt: skip
        if extractor is not None:
            memory = extractor.remember(memory, cost, steps, norm)
        if order == "adapt_first":  # the decision above saw the losses of earlier tokens only
            reading = adapter.read(lm, fast, view, learns=False)
            token_nll = score(lm, reading, tokens, mask, False).nll
        record = Episode(
            token_nll, masked_mean(token_nll, mask), decision.action, steps, cost,
            seen.inner_loss, decision.log_prob, decision.value, seen.entropy,
            seen.gradient_norm if "gradient_norm" in policy.needs else norm,
            seen.features, mask, policy_state,
        )  # fmt: skip
        learned = Learned(fast, rule_state, past)
        return Carry(learned, policy_state, memory, carry.spent + cost, token_nll), record

    return jax.lax.scan(read_unit, carry, units)


def _found(lm, adapter, text, n, learned: Learned) -> tuple[Any, Any]:
    """The fast weights and the rule's state that unit n finds: fresh ones where it resets them."""
    carried = (learned.fast, learned.rule)
    if text.resets is None:
        return carried
    fast = adapter.init(lm)
    fresh = (fast, adapter.rule.init(fast))
    return jax.tree.map(lambda new, old: jnp.where(text.resets[n], new, old), fresh, carried)


def _with_features(
    extractor, memory, seen: Observation, known: HeadStatistics | None, described, n_units: int
) -> tuple[Observation, Any]:
    """What is seen with its entropy and features, where something was scored, and their memory."""
    if known is None:
        return seen, memory
    seen = seen._replace(entropy=masked_mean(known.entropy, seen.mask))
    if extractor is None:
        return seen, memory
    features, memory = extractor.observe(
        memory, seen, known.entropy, known.max_log_prob, described[seen.unit], n_units
    )
    return seen._replace(features=features), memory


def _begin(lm, adapter, policy, extractor, window, unit: int, state) -> Carry:
    """What is carried into a document's first unit by a policy in `state`."""
    memory = None if extractor is None else extractor.init()
    learned = begin(lm, adapter, window, unit)
    return Carry(learned, policy.reset(state), memory, jnp.zeros(()), jnp.zeros(unit))


@jax.jit(static_argnames=("dispatch", "window", "order"))
def _read_documents(
    lm, adapter, policy, extractor, text, described, keys, state, *, dispatch, window, order
):
    n_units, unit = text.tokens.shape[1:]

    def read(state, inputs):
        carry = _begin(lm, adapter, policy, extractor, window, unit, state)
        carry, episode = _read_document(
            lm, adapter, policy, extractor, inputs, carry, jnp.arange(n_units),
            dispatch=dispatch, window=window, order=order, n_units=n_units,
        )  # fmt: skip
        return carry.policy, episode

    inputs = (text, None if described is None else jnp.asarray(described), keys)
    state = start_state(policy, keys) if state is None else state
    if dispatch == "masked" and not policy.follows_stream:
        return jax.vmap(partial(read, state))(inputs)[1]
    return jax.lax.scan(read, state, inputs)[1]


@jax.jit(static_argnames=("dispatch", "window"))
def _read_part(lm, adapter, policy, text, keys, carry, units, *, dispatch, window):
    n_units, unit = text.places.shape[1], text.tokens.shape[2]
    if carry is None:
        carry = _begin(lm, adapter, policy, None, window, unit, start_state(policy, keys))
    inputs = (jax.tree.map(lambda x: x[0], text), None, keys[0])
    carry, episode = _read_document(
        lm, adapter, policy, None, inputs, carry, units,
        dispatch=dispatch, window=window, order="predict_first", n_units=n_units,
    )  # fmt: skip
    return jax.tree.map(lambda x: x[None], episode), carry
