"""Policies of the chunk level at work on tokens: the same protocol, one decision a token.

What a heuristic sees of token t is known once t has been read and before t + 1 is predicted: the
final norm and head, put to the residual stream that enters the first TTT layer, give an early
prediction of the next token (its entropy) and gave one of this token (its loss).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ponderttt.errors import InputError
from ponderttt.models.head import head_statistics
from ponderttt.models.iterative.model import Allocate, Context, IterativeTransformerTTT
from ponderttt.models.iterative.ttt_mixer import Allocation
from ponderttt.models.norms import rms_norm
from ponderttt.policies.policy import Policy
from ponderttt.policies.thresholds import HEURISTICS, ThresholdPolicy
from ponderttt.types import Observation

WINDOW = 32
"""Tokens whose early losses an observation holds; local perplexity is of its last quarter."""


def by_policy(policy: Policy) -> Allocate:
    """`policy`, which must have no state, decides for every token of every document.

    All tokens are decided at once: one that carries a state from unit to unit is an `InputError`.
    A policy that reads the text (`needs`, or a threshold) decides at the first TTT layer, and the
    layers above do the same; one that does not draws for each layer.
    """
    if policy.follows_stream or jax.tree.leaves(policy.init(jax.random.key(0))):
        raise InputError(
            f"{type(policy).__name__} carries a state from unit to unit: expected a policy without "
            "one, such as a threshold, a mixture or a schedule"
        )

    def allocate(context: Context, key: PRNGKeyArray) -> Allocation:
        config = context.model.config
        if config.mini_batch > 1:
            raise InputError(
                "policies of this library decide token by token: expected mini_batch = 1, not "
                f"{config.mini_batch}"
            )
        b, t = context.input_ids.shape
        seen = _blank(b, t)
        if isinstance(policy, ThresholdPolicy):
            if context.before is not None:
                return context.before
            seen = observe(context, policy)
        keys = jax.random.split(key, (b, t))
        act = jax.vmap(jax.vmap(lambda seen, key: policy.act((), seen, key)[0]))
        action = act(seen, keys).action
        return Allocation(jnp.asarray(policy.actions.steps)[action], action=action)

    return allocate


def signal_of(
    kind: str, model: IterativeTransformerTTT, input_ids: Int[Array, "B T"]
) -> Float[Array, "B T"]:
    """The signal of the heuristic `kind` at every token of these documents."""
    found: list[jax.Array] = []
    policy = HEURISTICS[kind]

    def look(context: Context, key: PRNGKeyArray) -> Allocation:
        if not found:
            seen = observe(context, policy(jnp.zeros(3), model.config.actions))
            found.append(jax.vmap(jax.vmap(policy.signal))(seen))
        return Allocation(jnp.zeros(input_ids.shape, jnp.int32))

    model.read(input_ids, look, jax.random.key(0))
    return found[0]


def observe(context: Context, policy: ThresholdPolicy) -> Observation:
    """What is known at each token, leaves [B, T, ...]; only what `policy` needs is computed."""
    b, t = context.input_ids.shape
    nothing = jnp.full((b, t), jnp.nan)
    entropy, nll, norm = nothing, nothing, nothing
    if "gradient_norm" in policy.needs:
        norm = context.layer.gradient_norm(context.x)
    else:
        entropy, nll = _early_prediction(context)
    recent = jnp.pad(nll, ((0, 0), (WINDOW - 1, 0)))
    windows = jnp.stack([recent[:, i : i + t] for i in range(WINDOW)], axis=-1)
    age = jnp.arange(t)[:, None] - jnp.arange(WINDOW)[::-1][None]  # position of each in the text
    return _blank(b, t)._replace(
        token_nll=windows,
        mask=jnp.broadcast_to(age[None] > 0, windows.shape),
        nll=nll,
        entropy=entropy,
        gradient_norm=norm,
    )


def _early_prediction(context: Context) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Entropy of the next token and loss of this one (0 at the first), where the stream stands."""
    model = context.model
    hidden = jax.lax.stop_gradient(rms_norm(context.stream, model.final_scale[...]))
    head = jax.lax.stop_gradient(model.embedding[...])
    following = jnp.roll(context.input_ids, -1, axis=1)
    found = head_statistics(hidden, head, following)
    return found.entropy, jnp.pad(found.nll[:, :-1], ((0, 0), (1, 0)))


def _blank(b: int, t: int) -> Observation:
    nothing = jnp.full((b, t), jnp.nan)
    return Observation(
        unit=jnp.broadcast_to(jnp.arange(t)[None], (b, t)),
        token_nll=nothing[..., None],
        mask=jnp.ones((b, t, 1), bool),
        nll=nothing,
        inner_loss=nothing,
        spent=nothing,
        entropy=nothing,
        gradient_norm=nothing,
        features=jnp.zeros((b, t, 0)),
        binding=jnp.ones((b, t), bool),
    )
