"""The learned policy at work: a network on the features, under a hard budget if one is set.

Its file holds everything that a reader needs: parameters, the features' constants, and which
version of the features and which actions it was trained with.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from jaxtyping import Array, Float, PRNGKeyArray
from safetensors.numpy import save

from ponderttt import pytree
from ponderttt.checks import shown
from ponderttt.errors import InputError
from ponderttt.models.policy_network import PolicyNetworkConfig, apply_policy, init_policy
from ponderttt.policies.features import VERSION, FeatureExtractor
from ponderttt.policies.policy import Memoryless
from ponderttt.storage import atomic_path
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Decision, Observation


class Account(NamedTuple):
    """A running account of the stream: every unit read pays in `budget`, every action is paid.

    Its balance is the state of the policy that keeps it.
    """

    budget: Float[Array, ""]
    """Mean nominal cost a unit."""
    credit: Float[Array, ""]
    """How far it may be overdrawn."""

    @classmethod
    def open(cls, budget: float | Float[Array, ""], *, credit_units: float = 0.0) -> "Account":
        """An account that may be overdrawn by the budget of so many units."""
        return cls(jnp.asarray(budget), jnp.asarray(budget * credit_units))


@dataclass(frozen=True)
class ActorCritic(Memoryless):
    """Draws from the network's probabilities; with an `account`, only what it can afford.

    The cheapest action is always allowed, so that the account is never overdrawn by more than its
    credit wherever the budget covers that action. The account follows the stream: what a document
    leaves over is there for the next one.
    """

    params: Any
    network: PolicyNetworkConfig = PolicyNetworkConfig()
    account: Account | None = None
    actions: ActionSpace = CHUNK_ACTIONS

    def __post_init__(self):
        if self.network.actions != len(self.actions.names):
            raise InputError(
                f"the policy was trained to choose among {self.network.actions} actions: the "
                f"action space has {len(self.actions.names)}, {', '.join(self.actions.names)}"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features",)

    @property
    def follows_stream(self) -> bool:
        return self.account is not None

    def init(self, key: PRNGKeyArray) -> Any:
        return () if self.account is None else jnp.zeros(())

    def act(self, state, observation: Observation, key: PRNGKeyArray) -> tuple[Decision, Any]:
        output = apply_policy(self.network, self.params, observation.features)
        logits, costs = output.logits, jnp.asarray(self.actions.costs)
        if self.account is not None:
            state = jnp.where(jnp.any(observation.mask), state + self.account.budget, state)
            affordable = (costs <= state + self.account.credit + 1e-4) & observation.binding
            logits = jnp.where(affordable | (costs == jnp.min(costs)), logits, -jnp.inf)
        log_probs = jax.nn.log_softmax(logits)
        action = jax.random.categorical(key, log_probs)
        if self.account is not None:
            state = jnp.where(jnp.any(observation.mask), state - costs[action], state)
        return Decision(action.astype(jnp.int32), log_probs[action], output.value), state


pytree.register(ActorCritic, meta_fields=["network", "actions"])


def save_policy(path: Path | str, policy: ActorCritic, extractor: FeatureExtractor) -> None:
    """Write the policy and the features' constants to one file (safetensors), atomically."""
    leaves = {
        jax.tree_util.keystr(where): np.asarray(leaf)
        for where, leaf in jax.tree_util.tree_leaves_with_path((policy.params, extractor))
    }
    meta = {
        "features": VERSION,
        "network": asdict(policy.network),
        "actions": policy.actions._asdict(),
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(leaves, metadata={"ponderttt": json.dumps(meta)}))


def load_policy(
    path: Path | str, *, actions: ActionSpace = CHUNK_ACTIONS
) -> tuple[ActorCritic, FeatureExtractor]:
    """What `save_policy` wrote; another version of the features or other actions are refused."""
    try:
        with safetensors.safe_open(str(path), "numpy") as file:
            meta = json.loads((file.metadata() or {})["ponderttt"])
            leaves = {name: file.get_tensor(name) for name in file.keys()}
    except (
        OSError,
        LookupError,
        ValueError,
        TypeError,
        RecursionError,
        AttributeError,
        safetensors.SafetensorError,
    ) as error:  # AttributeError: a type that NumPy has not
        raise InputError(
            f"{path} is no policy file, or a damaged one ({error}): expected one that "
            "ponderttt train-policy wrote"
        ) from error
    if problem := _unlike(meta):
        raise InputError(
            f"{path} is no policy file: {problem}; expected one that ponderttt train-policy wrote"
        )
    if meta["features"] != VERSION:
        raise InputError(
            f"the policy {path} was trained on version {meta['features']} of the features, this "
            f"is version {VERSION}: train it again"
        )
    trained = ActionSpace(*(tuple(meta["actions"][name]) for name in ActionSpace._fields))
    if trained != actions:
        raise InputError(
            f"the policy {path} was trained with the actions {', '.join(trained.names)} at costs "
            f"{trained.costs}: expected {', '.join(actions.names)} at {actions.costs}"
        )
    try:
        network = PolicyNetworkConfig(**meta["network"])
    except (TypeError, InputError) as error:
        raise InputError(f"the policy {path} has an unknown network: {error}") from error
    like = (init_policy(network, jax.random.key(0)), FeatureExtractor.raw(budget=1.0))
    params, extractor = jax.tree_util.tree_map_with_path(
        lambda where, leaf: _leaf(path, leaves, jax.tree_util.keystr(where), leaf), like
    )
    return ActorCritic(params, network, None, actions), extractor


def _unlike(meta: Any) -> str | None:
    """What a policy's header lacks."""
    if not isinstance(meta, dict):
        return f"its header is {shown(meta)}"
    kinds = {"features": str | int, "network": dict, "actions": dict}
    for name, kind in kinds.items():
        if not isinstance(meta.get(name), kind):
            return f"its header's {name} is {shown(meta.get(name))}"
    for name in ActionSpace._fields:
        if not isinstance(meta["actions"].get(name), list):
            return f"its actions' {name} is {shown(meta['actions'].get(name))}"
    return None


def _leaf(path: Path | str, leaves: dict[str, np.ndarray], name: str, like: Any) -> jax.Array:
    """The array `name` of a policy file, of the shape and the type of `like`."""
    found, wanted = leaves.get(name), np.asarray(like)
    if found is None or found.shape != wanted.shape or found.dtype != wanted.dtype:
        what = "is absent" if found is None else f"is {found.dtype} of shape {found.shape}"
        raise InputError(
            f"the policy {path} is damaged: {name} {what}, expected {wanted.dtype} of shape "
            f"{wanted.shape}; train it again"
        )
    return jnp.asarray(found)
