"""The actor and its two critics: what a learned policy and PPO know of a unit's features."""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from ponderttt.checks import Count, check
from ponderttt.errors import InputError


@dataclass(frozen=True)
class PolicyNetworkConfig:
    """Shape of a `PolicyNetwork`: `layers` tanh layers of `hidden` in each of its three trunks."""

    features: Count = 32
    actions: Count = 4
    hidden: Count = 64
    layers: Count = 2

    def __post_init__(self):
        check(self)


class PolicyOutput(NamedTuple):
    """Unnormalised log-probabilities, and the expected sums of reward and of cost from here on."""

    logits: Float[Array, "*B A"]
    value: Float[Array, "*B"]
    cost_value: Float[Array, "*B"]


def orthogonal(
    key: PRNGKeyArray, shapes: tuple[tuple[int, int], ...]
) -> list[Float[Array, "rows columns"]]:
    """Random matrices of these shapes, each with orthonormal rows or columns.

    The polar factors of Gaussian matrices, by Newton-Schulz: `X <- 3/2 X - 1/2 X X^T X`, which
    moves every singular value to 1 and leaves padding zero. Products only, one draw and one loop:
    the usual QR goes through LAPACK, and several of those in one vmapped program can deadlock XLA's
    thread pool on a CPU of two cores (jaxlib 0.10). Each draw costs compile time, a flat one least.
    """
    side = max(max(shape) for shape in shapes)
    index = jnp.arange(side)
    inside = [(index < m)[:, None] & (index < n)[None] for m, n in shapes]
    x = jax.random.normal(key, (len(shapes) * side * side,))
    x = x.reshape(len(shapes), side, side) * jnp.stack(inside).astype(x.dtype)
    x = x / jnp.linalg.norm(x, axis=(1, 2), keepdims=True)  # no singular value above 1

    def step(_, x):  # the least singular value grows by 3/2 a step
        return 1.5 * x - 0.5 * x @ (jnp.swapaxes(x, 1, 2) @ x)

    x = jax.lax.fori_loop(0, 50, step, x)
    return [x[i, :m, :n] for i, (m, n) in enumerate(shapes)]


class PolicyNetwork(nnx.Module):
    """Actor, reward critic and cost critic, each on a tanh trunk of its own, without dropout.

    Dropout would make the ratio of new to old probability differ from 1 before any update. Weights
    start orthogonal: gain sqrt(2) in the trunks, 1 for the values, and 0.01 for the logits, so that
    the policy starts at nearly equal probabilities. The three trunks are stacked [3, in, out].

    Args:
        config: its shape.
        rngs: for the random start; None is seed 0.

    Called on features [*B, F] it gives a `PolicyOutput`: logits [*B, A], value and cost value [*B].

    Raises:
        InputError: another number of features than `config` says.

    >>> output = PolicyNetwork(PolicyNetworkConfig(features=32))(jnp.zeros((5, 32)))
    >>> output.logits.shape, output.value.shape
    ((5, 4), (5,))
    """

    def __init__(self, config: PolicyNetworkConfig, *, rngs: nnx.Rngs | None = None):
        self.config = config
        rngs = rngs or nnx.Rngs(0)
        h = config.hidden
        widths = [config.features] + [h] * (config.layers - 1)
        trunks = [(width, h) for width in widths for _ in range(3)]
        heads = [(h, config.actions), (h, 1), (h, 1)]
        drawn = orthogonal(rngs.params(), tuple(trunks + heads))
        stacks = [jnp.stack(drawn[3 * i : 3 * i + 3]) for i in range(len(widths))]
        self.kernels = nnx.List([nnx.Param(2**0.5 * stack) for stack in stacks])
        self.biases = nnx.List([nnx.Param(jnp.zeros((3, h))) for _ in stacks])
        self.logit_kernel = nnx.Param(0.01 * drawn[-3])
        self.logit_bias = nnx.Param(jnp.zeros(config.actions))
        self.value_kernel = nnx.Param(jnp.stack(drawn[-2:]))
        self.value_bias = nnx.Param(jnp.zeros(2))

    def __call__(self, features: Float[Array, "*B F"]) -> PolicyOutput:
        if features.shape[-1] != self.config.features:
            raise InputError(
                f"{features.shape[-1]} features a unit: this policy was made for "
                f"{self.config.features}"
            )
        *lead, width = features.shape
        flat = features.reshape(-1, width)
        x = jnp.broadcast_to(flat[None], (3, *flat.shape))
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            x = jnp.tanh(x @ kernel[...] + bias[...][:, None])
        logits = x[0] @ self.logit_kernel[...] + self.logit_bias[...][None]
        values = (x[1:] @ self.value_kernel[...])[..., 0] + self.value_bias[...][:, None]
        return PolicyOutput(
            logits.reshape(*lead, -1), values[0].reshape(lead), values[1].reshape(lead)
        )


@cache
def policy_graph(config: PolicyNetworkConfig) -> nnx.GraphDef:
    """All of a `PolicyNetwork` but its parameters: `nnx.merge(policy_graph(config), params)`."""
    return nnx.graphdef(nnx.eval_shape(lambda: PolicyNetwork(config)))


def init_policy(config: PolicyNetworkConfig, key: PRNGKeyArray) -> Any:
    """Parameters of a new `PolicyNetwork`, as a pytree."""
    return nnx.state(PolicyNetwork(config, rngs=nnx.Rngs(key)))


def apply_policy(
    config: PolicyNetworkConfig, params: Any, features: Float[Array, "*B F"]
) -> PolicyOutput:
    """What the network with these parameters says of `features`; pure."""
    return nnx.merge(policy_graph(config), params)(features)


def log_policy(
    config: PolicyNetworkConfig, params: Any, features: Float[Array, "*B F"]
) -> Float[Array, "*B A"]:
    """Log-probabilities: what the collector draws from and the deployed policy uses."""
    return jax.nn.log_softmax(apply_policy(config, params, features).logits)
