"""Fast weights as a layer of their own: what a TTT layer has inside, without projections."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ponderttt.errors import InputError
from ponderttt.inner import FAST_WEIGHTS, learn


class FastWeightLayer(nnx.Module):
    """A linear map, or an mlp, that learns values from keys by gradient steps, token by token.

    Linear weights take any number of steps on a token in closed form; an mlp takes them one by one.

    Args:
        width: of keys and values, d.
        fast_weight: `linear` or `mlp`.
        hidden: hidden width of the mlp.
        rngs: for the weights' random start; None is seed 0.

    Called on x [T, d] it answers [T, d] with the weights as they are.

    Raises:
        InputError: an unknown `fast_weight`.

    >>> layer = FastWeightLayer(8)
    >>> k = jnp.eye(8)[:3]
    >>> answers, after = layer.learn(k, 2 * k, rate=0.4, steps=64)
    >>> bool(jnp.abs(after(k[-1:]) - 2 * k[-1:]).max() < 1e-3)
    True
    """

    def __init__(
        self,
        width: int,
        *,
        fast_weight: Literal["linear", "mlp"] = "linear",
        hidden: int = 64,
        rngs: nnx.Rngs | None = None,
    ):
        if fast_weight not in FAST_WEIGHTS:
            raise InputError(
                f"unknown fast weight {fast_weight!r}: expected {', '.join(FAST_WEIGHTS)}"
            )
        self.fast_weight = fast_weight
        initial = FAST_WEIGHTS[fast_weight].init((rngs or nnx.Rngs(0)).params(), width, hidden)
        self.weights = nnx.Dict({name: nnx.Param(value) for name, value in initial.items()})

    def fast(self) -> dict[str, Array]:
        """The weights as a plain pytree."""
        return {name: self.weights[name][...] for name in self.weights}

    def __call__(self, x: Float[Array, "T d"]) -> Float[Array, "T d"]:
        """What the weights, as they are, answer to `x`."""
        return FAST_WEIGHTS[self.fast_weight].apply(self.fast(), x)

    def learn(
        self,
        k: Float[Array, "T d"],
        v: Float[Array, "T d"],
        *,
        rate: float,
        steps: int | Int[Array, "T"] = 1,
    ) -> tuple[Float[Array, "T d"], "FastWeightLayer"]:
        """Each token's answer to its own key after its steps, and the layer with the last weights.

        Args:
            k: keys.
            v: values, what the keys should be answered with.
            rate: of a step down `1/2 ||f(k) - v||^2`.
            steps: K, for all tokens or for each.

        Returns:
            Answers [T, d], and a new layer; this one is unchanged.

        Raises:
            InputError: shapes that differ, a rate at which linear weights diverge.
        """
        rates = jnp.full(k.shape[:1], rate)
        answers, fast = learn(self.fast(), k, k, v, rate=rates, steps=steps, model=self.fast_weight)
        after = nnx.clone(self)
        after.weights = nnx.Dict({name: nnx.Param(value) for name, value in fast.items()})
        return answers, after
