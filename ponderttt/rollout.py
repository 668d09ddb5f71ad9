"""The one loop over text: predict a unit, observe, decide, adapt; then the next unit.

Score first: the loss of record of a unit is that of the fast weights it found.
"""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ponderttt.inner.descent import DISPATCHES, Dispatch, Order, adapt
from ponderttt.models.adapters import Adapter, Unit, token_losses
from ponderttt.models.hidden import hidden_states
from ponderttt.models.lm import TransformerLM
from ponderttt.policies import Policy
from ponderttt.types import Documents, Episode, InputError, Observation, masked_mean


def rollout(
    lm: TransformerLM,
    adapter: Adapter,
    policy: Policy,
    documents: Documents,
    *,
    key: PRNGKeyArray,
    dispatch: Dispatch = "masked",
    chunk: int | None = None,
    hidden: Float[Array | np.ndarray, "B N U D"] | None = None,
    order: Order = "predict_first",
) -> Episode:
    """Read `documents` unit by unit under `policy`; fast weights start afresh in each document.

    `chunk` is the base's attention window (default: one unit), `hidden` its states if they are
    cached (those before the adapter's suffix blocks). `masked` vmaps documents and pays the
    policy's largest K everywhere; `switch` reads one document at a time and runs only the steps
    that are taken. Both give the same numbers to 1e-5. `adapt_first` (the order of the TTT
    literature) is causal for units of one token under `reconstruction` only; an `InputError`
    otherwise. A padded unit takes no step and costs nothing.
    """
    unit = documents.tokens.shape[-1]
    chunk = unit if chunk is None else chunk
    _check(adapter, unit, chunk, dispatch, order)
    if hidden is None:
        hidden = hidden_states(lm, documents, chunk=chunk, suffix_blocks=adapter.suffix_blocks)
    if tuple(hidden.shape[:3]) != tuple(documents.tokens.shape):
        raise InputError(
            f"hidden states of shape {tuple(hidden.shape)} do not belong to documents of shape "
            f"{tuple(documents.tokens.shape)}: expected [B, N, U, D]"
        )
    keys = jax.random.split(key, documents.tokens.shape[0])
    return _read_documents(
        lm, adapter, policy, documents, jnp.asarray(hidden), keys,
        dispatch=dispatch, chunk=chunk, order=order,
    )  # fmt: skip


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


def _by_chunk(hidden: Float[Array, "N U D"], chunk: int) -> Float[Array, "M C D"]:
    """Units joined into whole attention chunks, the last one padded with zeros."""
    n, u, d = hidden.shape
    per_chunk = chunk // u
    padded = jnp.pad(hidden, ((0, -n % per_chunk), (0, 0), (0, 0)))
    return padded.reshape(-1, chunk, d)


def _read_document(lm, adapter, policy, tokens, mask, hidden, key, *, dispatch, chunk, order):
    """One document: tokens and mask [N, U], hidden [N, U, D] -> an Episode without its B axis."""
    n_units, unit = tokens.shape
    steps_of = jnp.asarray(policy.actions.steps)
    cost_of = jnp.asarray(policy.actions.costs)
    start_key, unit_key = jax.random.split(key)
    initial = adapter.init(lm)
    chunks = _by_chunk(hidden, chunk) if adapter.suffix_blocks else hidden
    per_chunk = chunk // unit if adapter.suffix_blocks else 1

    def read_unit(carry, n):
        fast, policy_state, spent, known_nll = carry
        states = jax.lax.dynamic_index_in_dim(chunks, n // per_chunk, keepdims=False)
        view = adapter.view(lm, Unit(states, (n % per_chunk) * unit, tokens[n], mask[n]))

        def score(fast):
            losses = token_losses(lm, adapter.hidden(lm, fast, view), tokens[n])
            return jnp.where(mask[n], losses, 0.0)

        if order == "predict_first":
            known_nll = score(fast)
        inner_loss = adapter.observed_loss(fast, view, known_nll)
        seen = Observation(
            n, known_nll, mask[n], masked_mean(known_nll, mask[n]), inner_loss, spent
        )
        decision, policy_state = policy.act(policy_state, seen, jax.random.fold_in(unit_key, n))
        real = jnp.any(mask[n])
        steps = jnp.where(real, steps_of[decision.action], 0)
        cost = jnp.where(real, cost_of[decision.action], 0.0)
        fast = adapt(
            fast, view, steps,
            gradient=lambda fast, view: adapter.gradient(lm, fast, view),
            rate=adapter.rate, clip=adapter.clip, decay=adapter.decay, initial=initial,
            max_steps=policy.max_steps, dispatch=dispatch,
        )  # fmt: skip
        if order == "adapt_first":  # the decision above saw the losses of earlier tokens only
            known_nll = score(fast)
        record = Episode(
            known_nll, masked_mean(known_nll, mask[n]), decision.action, steps, cost, inner_loss,
            decision.log_prob, decision.value, mask[n],
        )  # fmt: skip
        return (fast, policy_state, spent + cost, known_nll), record

    carry = (initial, policy.init(start_key), jnp.zeros(()), jnp.zeros(unit))
    return jax.lax.scan(read_unit, carry, jnp.arange(n_units))[1]


@jax.jit(static_argnames=("dispatch", "chunk", "order"))
def _read_documents(lm, adapter, policy, documents, hidden, keys, *, dispatch, chunk, order):
    def read(inputs):
        return _read_document(
            lm, adapter, policy, *inputs, dispatch=dispatch, chunk=chunk, order=order
        )

    inputs = (documents.tokens, documents.mask, hidden, keys)
    return (
        jax.vmap(lambda *x: read(x))(*inputs) if dispatch == "masked" else jax.lax.map(read, inputs)
    )
