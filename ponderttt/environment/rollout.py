"""The one loop over text: predict a unit, observe, decide, adapt; then the next unit.

Score first: the loss of record of a unit is that of the fast weights it found.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from ponderttt.errors import InputError
from ponderttt.inner.descent import DISPATCHES, Dispatch, Order, descend, global_norm
from ponderttt.models.adapters.protocol import Adapter, Unit, token_losses
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.head import HeadStatistics, head_statistics
from ponderttt.policies import FeatureExtractor, Policy
from ponderttt.types import Documents, Episode, Observation, masked_mean


def rollout(
    lm: TransformerLM,
    adapter: Adapter,
    policy: Policy,
    documents: Documents,
    *,
    key: Key[Array, "*B"],
    dispatch: Dispatch = "masked",
    chunk: int | None = None,
    hidden: Float[Array | np.ndarray, "B N U D"] | None = None,
    order: Order = "predict_first",
    extractor: FeatureExtractor | None = None,
    described: Float[Array | np.ndarray, "B N described"] | None = None,
    state: Any = None,
) -> Episode:
    """Read `documents` unit by unit under `policy`; fast weights start afresh in each document.

    `chunk` is the base's attention window (default: one unit), `hidden` its states if they are
    cached (those before the adapter's suffix blocks). `masked` vmaps documents and pays the
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
    unit = documents.tokens.shape[-1]
    chunk = unit if chunk is None else chunk
    _check(adapter, unit, chunk, dispatch, order)
    _check_features(policy, documents, extractor, described, order)
    if hidden is None:
        hidden = hidden_states(lm, documents, chunk=chunk, suffix_blocks=adapter.suffix_blocks)
    if tuple(hidden.shape[:3]) != tuple(documents.tokens.shape):
        raise InputError(
            f"hidden states of shape {tuple(hidden.shape)} do not belong to documents of shape "
            f"{tuple(documents.tokens.shape)}: expected [B, N, U, D]"
        )
    return _read_documents(
        lm, adapter, policy, extractor, documents, jnp.asarray(hidden), described,
        document_keys(key, documents.tokens.shape[0]), state,
        dispatch=dispatch, chunk=chunk, order=order,
    )  # fmt: skip


def document_keys(key: Key[Array, "*B"], count: int) -> Key[Array, "documents"]:
    """One key for each of `count` documents: `key` itself where it holds so many."""
    if key.ndim and key.shape != (count,):
        raise InputError(f"keys of shape {key.shape} for {count} documents: expected one for each")
    return key if key.ndim else jax.random.split(key, count)


def start_state(policy: Policy, keys: Key[Array, "B"]) -> Any:
    """The policy's state at the start of a stream whose documents have these keys."""
    return jax.tree.map(jnp.asarray, policy.init(jax.random.split(keys[0])[0]))


def _check(adapter: Adapter, unit: int, chunk: int, dispatch: str, order: str) -> None:
    if dispatch not in DISPATCHES:
        raise InputError(f"unknown dispatch {dispatch!r}: expected one of {', '.join(DISPATCHES)}")
    if order not in get_args(Order):
        raise InputError(f"unknown order {order!r}: expected {' or '.join(get_args(Order))}")
    if chunk % unit:
        raise InputError(f"a unit of {unit} tokens does not divide the chunk of {chunk} tokens")
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


def _by_chunk(hidden: Float[Array, "N U D"], chunk: int) -> Float[Array, "chunks C D"]:
    """Units joined into whole attention chunks, the last one padded with zeros."""
    n, u, d = hidden.shape
    per_chunk = chunk // u
    padded = jnp.pad(hidden, ((0, -n % per_chunk), (0, 0), (0, 0)))
    return padded.reshape(-1, chunk, d)


def views(
    lm: TransformerLM,
    adapter: Adapter,
    tokens: Int[Array, "N U"],
    mask: Bool[Array, "N U"],
    hidden: Float[Array, "N U D"],
    chunk: int,
) -> Callable[[Int[Array, ""]], Any]:
    """What the adapter sees of unit n of one document, as a function of n."""
    unit = tokens.shape[1]
    chunks = _by_chunk(hidden, chunk) if adapter.suffix_blocks else hidden
    per_chunk = chunk // unit if adapter.suffix_blocks else 1

    def view(n):
        states = jax.lax.dynamic_index_in_dim(chunks, n // per_chunk, keepdims=False)
        return adapter.view(lm, Unit(states, (n % per_chunk) * unit, tokens[n], mask[n]))

    return view


class _Carry(NamedTuple):
    """What one unit hands to the next."""

    fast: Any
    rule_state: Any
    policy: Any
    memory: Any
    spent: Float[Array, ""]
    token_nll: Float[Array, "U"]


def _read_document(
    lm, adapter, policy, extractor, state, inputs, *, dispatch, chunk, order
) -> tuple[Any, Episode]:
    """One document: tokens and mask [N, U], hidden [N, U, D] -> an Episode without its B axis."""
    tokens, mask, hidden, described, key = inputs
    n_units, unit = tokens.shape
    steps_of, cost_of = jnp.asarray(policy.actions.steps), jnp.asarray(policy.actions.costs)
    unit_key = jax.random.split(key)[1]
    initial, view_of = adapter.init(lm), views(lm, adapter, tokens, mask, hidden, chunk)
    unknown = jnp.full((), jnp.nan)
    with_entropy = extractor is not None or "entropy" in policy.needs

    rule, gradient = adapter.rule, partial(adapter.gradient, lm)

    def read_unit(carry: _Carry, n):
        view = view_of(n)
        known, token_nll = None, carry.token_nll
        if order == "predict_first":
            known = score(lm, adapter, carry.fast, view, tokens[n], mask[n], with_entropy)
            token_nll = known.nll
        seen = Observation(
            n, token_nll, mask[n], masked_mean(token_nll, mask[n]),
            adapter.observed_loss(carry.fast, view, token_nll), carry.spent,
            unknown, unknown, jnp.zeros(0),
        )  # fmt: skip
        if "gradient_norm" in policy.needs:
            seen = seen._replace(gradient_norm=global_norm(gradient(carry.fast, view)))
        seen, memory = _with_features(extractor, carry.memory, seen, known, described, n_units)
        decision, policy_state = policy.act(carry.policy, seen, jax.random.fold_in(unit_key, n))
        real = jnp.any(mask[n])
        steps = jnp.where(real, steps_of[decision.action], 0)
        cost = jnp.where(real, cost_of[decision.action], 0.0)
        fast, rule_state, norm = descend(
            carry.fast,
            view,
            steps,
            rule=rule,
            state=carry.rule_state,
            gradient=gradient,
            max_steps=policy.max_steps,
            dispatch=dispatch,
        )
        if extractor is not None:
            memory = extractor.remember(memory, cost, steps, norm)
        if order == "adapt_first":  # the decision above saw the losses of earlier tokens only
            token_nll = score(lm, adapter, fast, view, tokens[n], mask[n], False).nll
        record = Episode(
            token_nll, masked_mean(token_nll, mask[n]), decision.action, steps, cost,
            seen.inner_loss, decision.log_prob, decision.value, seen.entropy,
            seen.gradient_norm if "gradient_norm" in policy.needs else norm,
            seen.features, mask[n], policy_state,
        )  # fmt: skip
        spent = carry.spent + cost
        return _Carry(fast, rule_state, policy_state, memory, spent, token_nll), record

    memory = None if extractor is None else extractor.init()
    start = (initial, rule.init(initial), policy.reset(state), memory)
    carry = _Carry(*start, jnp.zeros(()), jnp.zeros(unit))
    carry, episode = jax.lax.scan(read_unit, carry, jnp.arange(n_units))
    return carry.policy, episode


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


def score(
    lm: TransformerLM,
    adapter: Adapter,
    fast: Any,
    view: Any,
    tokens: Int[Array, "U"],
    mask: Bool[Array, "U"],
    with_entropy: bool,
) -> HeadStatistics:
    """One unit's losses under `fast`, 0 on padding; without `with_entropy`, entropies are NaN."""
    hidden = adapter.hidden(lm, fast, view)
    if with_entropy:
        scored = head_statistics(hidden.astype(lm.head.dtype), lm.head, tokens)
    else:
        unknown = jnp.full(tokens.shape, jnp.nan)
        scored = HeadStatistics(token_losses(lm, hidden, tokens), unknown, unknown)
    return scored._replace(nll=jnp.where(mask, scored.nll, 0.0))


@jax.jit(static_argnames=("dispatch", "chunk", "order"))
def _read_documents(
    lm, adapter, policy, extractor, documents, hidden, described, keys, state,
    *, dispatch, chunk, order,
):  # fmt: skip
    read = partial(
        _read_document, lm, adapter, policy, extractor, dispatch=dispatch, chunk=chunk, order=order
    )
    if described is not None:
        described = jnp.asarray(described)
    inputs = (documents.tokens, documents.mask, hidden, described, keys)
    state = start_state(policy, keys) if state is None else state
    if dispatch == "masked" and not policy.follows_stream:
        return jax.vmap(partial(read, state))(inputs)[1]
    return jax.lax.scan(read, state, inputs)[1]
