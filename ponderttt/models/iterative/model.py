"""A transformer trained from scratch whose TTT layers take K_t gradient steps on every token.

Pre-norm blocks of a mixer and a position-wise network; at `ttt_layer_indices` the mixer is a TTT
layer, at all others causal attention. Score first: the prediction of a token, and every decision
that goes into it, depends on earlier tokens only.
Axes: B documents, T tokens, N units (T / mini_batch), D width, H heads, d head width, A options.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ponderttt import pytree
from ponderttt.errors import InputError
from ponderttt.models.head import head_loss
from ponderttt.models.iterative.block import AttentionMixer, Block
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.models.iterative.ttt_mixer import Allocation, TTTMixer
from ponderttt.models.lookup import rows_of
from ponderttt.models.norms import rms_norm
from ponderttt.types import IGNORED


class Context(NamedTuple):
    """What is known where a TTT layer decides: nothing of it depends on later tokens."""

    model: "IterativeTransformerTTT"
    layer: TTTMixer
    stream: Float[Array, "B T D"]
    """The residual stream that enters the block."""
    x: Float[Array, "B T D"]
    """The same, normalised: what the layer is given."""
    input_ids: Int[Array, "B T"]
    before: Allocation | None
    """What the TTT layer below was told."""
    number: int
    """Which TTT layer it is, from 0."""


Allocate = Callable[[Context, PRNGKeyArray], Allocation]
"""Decides the steps of a TTT layer."""


class ForwardOutput(NamedTuple):
    """The last hidden state, after the final norm, and what each TTT layer was told."""

    hidden: Float[Array, "B T D"]
    allocations: tuple[Allocation, ...]


@pytree.register
@dataclass(frozen=True)
class IterativeOutput:
    """`loss` (mean nats a scored token) and `nll` [B, T] where there were labels, else `logits`.

    `ttt_stats[i]` of the i-th TTT layer: `avg_steps`, and `distribution` [A] over the options. The
    fields are also read by name, as in `outputs["loss"]`.
    """

    loss: Float[Array, ""] | None
    nll: Float[Array, "B T"] | None
    logits: Float[Array, "B T V"] | None
    ttt_stats: tuple[dict[str, jax.Array], ...]
    allocations: tuple[Allocation, ...]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


class IterativeTransformerTTT(nnx.Module):
    """The model; `num_steps` None lets each TTT layer's halting network decide.

    Every model has the halting networks, whether they decide or not: methods are compared at the
    same number of trainable parameters. Called on ids [B, T] it gives an `IterativeOutput`.

    Args:
        config: its shape.
        rngs: for the random start; None is seed 0.

    >>> config = IterativeTransformerConfig(
    ...     vocab_size=64, hidden_dim=16, num_layers=2, num_heads=2, ffn_dim=32,
    ...     ttt_layer_indices=[1], fast_weight="linear",
    ... )
    >>> model = IterativeTransformerTTT(config)
    >>> ids = jnp.arange(12).reshape(2, 6)
    >>> outputs = model(input_ids=ids, labels=ids, num_steps=4)
    >>> float(outputs["ttt_stats"][0]["avg_steps"])
    4.0
    """

    def __init__(self, config: IterativeTransformerConfig, *, rngs: nnx.Rngs | None = None):
        self.config = config
        rngs = rngs or nnx.Rngs(0)
        width = config.hidden_dim
        self.embedding = nnx.Param(
            0.02 * jax.random.normal(rngs.params(), (config.vocab_size, width))
        )
        self.positions = nnx.Param(
            0.02 * jax.random.normal(rngs.params(), (config.max_length, width))
        )
        self.final_scale = nnx.Param(jnp.ones(width))
        ttt = set(config.ttt_layer_indices)
        self.blocks = nnx.List(
            [
                Block(config, kind(config, rngs=rngs), rngs=rngs)
                for kind in (
                    TTTMixer if i in ttt else AttentionMixer for i in range(config.num_layers)
                )
            ]
        )

    def read(
        self, input_ids: Int[Array, "B T"], allocate: Allocate, key: PRNGKeyArray
    ) -> ForwardOutput:
        """Read documents; `allocate` decides at each TTT layer, by a key of its own."""
        check_ids("input_ids", input_ids, self.config.vocab_size)
        length = input_ids.shape[1]
        if length > self.config.max_length:
            raise InputError(
                f"a text of {length} tokens: this model reads at most max_length = "
                f"{self.config.max_length}"
            )
        h = rows_of(self.embedding[...], input_ids) + self.positions[...][None, :length]
        h = h * self.config.hidden_dim**0.5
        allocations: list[Allocation] = []
        for block in self.blocks:
            x = rms_norm(h, block.mixer_scale[...])
            if isinstance(block.mixer, TTTMixer):
                here = jax.random.fold_in(key, len(allocations))
                before = allocations[-1] if allocations else None
                context = Context(self, block.mixer, h, x, input_ids, before, len(allocations))
                allocations.append(allocate(context, here))
                h = h + block.mixer(x, allocations[-1])
            else:
                h = h + block.mixer(x)
            h = block.mlp(h)
        return ForwardOutput(rms_norm(h, self.final_scale[...]), tuple(allocations))

    def loss(
        self, hidden: Float[Array, "B T D"], labels: Int[Array, "B T"]
    ) -> tuple[Float[Array, ""], Float[Array, "B T"]]:
        """The mean over scored tokens (with gradient), and each token's (without; 0 elsewhere)."""
        scored = labels != IGNORED
        weights = scored.astype(float) / jnp.maximum(jnp.sum(scored), 1).astype(float)
        mean, nll = head_loss(
            hidden.reshape(-1, hidden.shape[-1]), self.embedding[...],
            jnp.where(scored, labels, 0).reshape(-1), weights.reshape(-1),
        )  # fmt: skip
        return mean, jnp.where(scored, nll.reshape(labels.shape), 0.0)

    def logits(self, hidden: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Of the token that follows each one."""
        return hidden @ self.embedding[...].T

    def __call__(
        self,
        input_ids: Int[Array, "B T"],
        labels: Int[Array, "B T"] | None = None,
        num_steps: int | Int[Array, ""] | Int[Array, "B N"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
        return_stats: bool = True,
    ) -> IterativeOutput:
        """Read documents and score labels.

        Args:
            input_ids: tokens.
            labels: the token after each; `IGNORED` is not scored. None: logits are given instead.
            num_steps: one number for all, one a mini-batch (a token, where the config says no more)
                or None: each layer's halting network decides.
            key: for draws by the halting networks; None takes the likeliest option.
            return_stats: whether to report mean steps and shares of options by layer.

        Raises:
            InputError: a text longer than `max_length`, steps that are not 0 to `max_steps`, ids
                or labels outside the vocabulary (under `jit`, where values are not known, such an
                id gives NaN).
        """
        if num_steps is None and not self.config.use_learned_policy:
            raise InputError(
                "num_steps is None and this model has use_learned_policy=False: give the steps, "
                "a whole number or one a token"
            )
        if num_steps is not None:
            allocate = given(num_steps)
        else:
            allocate = halting if key is None else drawn_halting
        if labels is not None:
            check_ids("labels", labels, self.config.vocab_size, or_ignored=True)
        reading = self.read(input_ids, allocate, jax.random.key(0) if key is None else key)
        loss = nll = logits = None
        if labels is None:
            logits = self.logits(reading.hidden)
        else:
            loss, nll = self.loss(reading.hidden, jnp.asarray(labels))
        options = jnp.asarray(self.config.step_options)
        stats = tuple(
            {
                "avg_steps": jnp.mean(allocation.steps),
                "distribution": jnp.mean(
                    allocation.steps[..., None] == options[None, None],
                    axis=(0, 1),
                    dtype=jnp.float32,
                ),
            }
            for allocation in reading.allocations
            if return_stats
        )
        return IterativeOutput(loss, nll, logits, stats, reading.allocations)


def check_ids(name: str, ids: Any, vocab_size: int, *, or_ignored: bool = False) -> None:
    """An `InputError` unless `ids` [B, T] are whole numbers that a vocabulary has.

    Values are looked at where they are known: not under `jit`.
    """
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise InputError(
            f"{name} are {ids.dtype} {tuple(ids.shape)}: expected ids, whole numbers [B, T]"
        )
    if isinstance(ids, jax.core.Tracer) or ids.size == 0:
        return
    known = np.asarray(ids)
    outside = (known < 0) | (known >= vocab_size)
    if or_ignored:
        outside &= known != IGNORED
    if outside.any():
        raise InputError(
            f"{name} hold {known[outside][0]}: the vocabulary is 0 to {vocab_size - 1}"
            + (f", and {IGNORED} for what is not scored" if or_ignored else "")
            + "; encode with the tokenizer of this model, or give it a larger vocab_size"
        )


def count_parameters(config: IterativeTransformerConfig) -> int:
    """How many trainable parameters every model of this shape has."""
    state = nnx.eval_shape(lambda: nnx.state(IterativeTransformerTTT(config), nnx.Param))
    return sum(int(leaf.size) for leaf in jax.tree.leaves(state))


def given(num_steps: int | Int[Array, ""] | Int[Array, "B N"]) -> Allocate:
    """These steps at every TTT layer."""

    def allocate(context: Context, key: PRNGKeyArray) -> Allocation:
        config, (b, t) = context.model.config, context.input_ids.shape
        shape = (b, t // config.mini_batch)
        steps = jnp.asarray(num_steps)
        if steps.ndim and steps.shape != shape:
            raise InputError(
                f"num_steps has shape {steps.shape}: expected one number or one a decision, {shape}"
            )
        if not isinstance(num_steps, jax.core.Tracer):
            known = np.asarray(num_steps)  # numpy: under jit, jnp would make these traced
            low, high = int(known.min()), int(known.max())
            if low < 0 or high > config.max_steps:
                raise InputError(
                    f"num_steps is {low if low < 0 else high}: expected 0 to max_steps = "
                    f"{config.max_steps}"
                )
        return Allocation(jnp.broadcast_to(steps, shape))

    return allocate


def halting(context: Context, key: PRNGKeyArray) -> Allocation:
    """The option that the layer's halting network finds likeliest."""
    logits = context.layer.decide(context.x)
    return _chosen(context, logits, jnp.argmax(logits, axis=-1))


def drawn_halting(context: Context, key: PRNGKeyArray) -> Allocation:
    """An option drawn with the probabilities that the layer's halting network gives."""
    logits = context.layer.decide(context.x)
    return _chosen(context, logits, jax.random.categorical(key, logits))


def mixed_halting(context: Context, key: PRNGKeyArray) -> Allocation:
    """All options at once, weighted by their probabilities: the exact expectation, no draw."""
    log_probs = jax.nn.log_softmax(context.layer.decide(context.x))
    options = jnp.asarray(context.model.config.step_options, jnp.float32)
    return Allocation(jnp.exp(log_probs) @ options, log_probs, mixed=True)


def _chosen(context: Context, logits: Float[Array, "B N A"], action: Int[Array, "B N"]):
    steps = jnp.asarray(context.model.config.step_options)[action]
    return Allocation(steps, jax.nn.log_softmax(logits), action)
