"""The axes and the containers that everything else shares.

Axes, the same letters everywhere (a test holds every annotation to this table; whole words need no
entry):

    B  documents
    T  tokens (= N * U)
    N  units
    U  tokens per unit
    D  model width
    H  heads
    G  key/value heads
    R  query heads per key/value head
    d  head width
    e  head width and, with a bias, one more
    h  hidden units of an mlp
    i  inputs of a product
    o  outputs of a product
    V  vocabulary
    K  inner steps
    A  actions
    F  features
    L  layers
    S  seeds
    M  rows of a table (units, tokens or windows, one below the other)
    W  allocations
    E  nodes of a tree that have a decision
    P  positions that the token oracle asks at
    b  tokens per mini-batch
    n  batches (training steps)
"""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing
from jaxtyping import Array, Bool, Float, Int

from ponderttt.errors import InputError

ArrayLike: TypeAlias = numpy.typing.ArrayLike | tuple
"""What `np.asarray` takes; numpy's own name for it leaves out tuples where it is checked."""

IGNORED = -100
"""The label of a token that is never scored."""


class ActionSpace(NamedTuple):
    """What can be decided about a unit: names, inner steps and nominal costs, cheapest first."""

    names: tuple[str, ...]
    steps: tuple[int, ...]
    costs: tuple[float, ...]

    def position(self, name: str) -> int:
        """Position of the action `name`; an unknown name is an `InputError`."""
        if name not in self.names:
            raise InputError(f"unknown action {name!r}: expected one of {', '.join(self.names)}")
        return self.names.index(name)

    @property
    def max_steps(self) -> int:
        """The most steps of any action."""
        return max(self.steps)


CHUNK_ACTIONS = ActionSpace(
    ("SKIP", "UPDATE_1", "UPDATE_2", "UPDATE_4"), (0, 1, 2, 4), (1.0, 3.0, 5.0, 12.0)
)


class Documents(NamedTuple):
    """Documents cut into units: `tokens` are the targets, each predicted from those before it.

    A document is one file, or the files of a repository one after another: `starts` is True at
    units that begin a file (None: the first unit alone), and no unit holds tokens of two. `mask` is
    False on padding (only ever at a file's end); `bos` is the token that stands before the first
    one of a file and is itself never scored.
    """

    tokens: Int[Array, "B N U"]
    mask: Bool[Array, "B N U"]
    bos: Int[Array, ""]
    starts: Bool[Array, "B N"] | None = None

    @property
    def inputs(self) -> Int[Array | np.ndarray, "B N U"]:
        """The token before each token: what the model reads when it predicts `tokens`."""
        b, n, u = self.tokens.shape
        # On the host nothing has to be compiled for it.
        xp = np if isinstance(self.tokens, np.ndarray) else jnp
        flat = self.tokens.reshape(b, n * u)
        first = xp.full((b, 1), self.bos, flat.dtype)
        shifted = xp.concatenate([first, flat[:, :-1]], axis=1).reshape(b, n, u)
        if self.starts is None:
            return shifted
        begins = xp.asarray(self.starts)[:, :, None] & (np.arange(u) == 0)[None, None]
        return xp.where(begins, xp.asarray(self.bos, shifted.dtype), shifted)

    @property
    def places(self) -> Int[np.ndarray, "B N"]:
        """How many units of its own file come before each unit."""
        numbers = np.broadcast_to(np.arange(self.tokens.shape[1]), self.tokens.shape[:2])
        if self.starts is None:
            return np.array(numbers)
        begun = np.where(np.asarray(self.starts), numbers, 0)
        return numbers - np.maximum.accumulate(begun, axis=1)

    def select(self, index) -> "Documents":
        """The documents at `index` (a slice or an integer array along B)."""
        starts = None if self.starts is None else self.starts[index]
        return Documents(self.tokens[index], self.mask[index], self.bos, starts)

    def regroup(self, unit: int) -> "Documents":
        """The same tokens in units of `unit`, which has to divide the units that they are in."""
        b, n, u = self.tokens.shape
        if unit < 1 or u % unit:
            raise InputError(f"a unit of {unit} tokens does not divide units of {u} tokens")
        starts = None
        if self.starts is not None:
            begins = (np.arange(u // unit) == 0)[None, None]
            starts = (np.asarray(self.starts)[:, :, None] & begins).reshape(b, -1)
        shape = (b, n * (u // unit), unit)
        tokens, mask = self.tokens.reshape(shape), self.mask.reshape(shape)
        return Documents(tokens, mask, self.bos, starts)  # type: ignore[arg-type]


class Observation(NamedTuple):
    """What is known once a unit has been scored and before it is learned from.

    `entropy`, `gradient_norm` and `features` cost something: they are there for policies whose
    `needs` name them, and NaN (no features at all) for others.
    """

    unit: Int[Array, ""]
    token_nll: Float[Array, "U"]
    mask: Bool[Array, "U"]
    nll: Float[Array, ""]
    inner_loss: Float[Array, ""]
    spent: Float[Array, ""]
    entropy: Float[Array, ""]
    """Mean entropy of the predictions of the unit's tokens, nats."""
    gradient_norm: Float[Array, ""]
    """Of the inner loss at the weights that the unit found."""
    features: Float[Array, "F"]
    binding: Bool[Array, ""] | bool = True
    """False where the cheapest action is taken whatever is decided: a tree's last unit."""


class Decision(NamedTuple):
    """An action, with its log-probability and value (zeros where they mean nothing)."""

    action: Int[Array, ""]
    log_prob: Float[Array, ""]
    value: Float[Array, ""]


class Episode(NamedTuple):
    """What happened while a policy read documents. Losses in nats; padded units carry zeros.

    `entropy` and `features` are NaN, or none, where nothing asked for them; `gradient_norm` is
    that of the unit's first step, or what the policy asked for.
    """

    token_nll: Float[Array, "B N U"]
    nll: Float[Array, "B N"]
    action: Int[Array, "B N"]
    steps: Int[Array, "B N"]
    cost: Float[Array, "B N"]
    inner_loss: Float[Array, "B N"]
    log_prob: Float[Array, "B N"]
    value: Float[Array, "B N"]
    entropy: Float[Array, "B N"]
    gradient_norm: Float[Array, "B N"]
    features: Float[Array, "B N F"]
    mask: Bool[Array, "B N U"]
    state: Any = ()
    """The policy's state after each unit, leaves [B, N, ...]."""

    @property
    def final_state(self) -> Any:
        """The policy's state after the last unit: what a reader of the same stream goes on with."""
        return jax.tree.map(lambda x: x[-1, -1], self.state)


def masked_mean(x: Float[Array, "*batch U"], mask: Bool[Array, "*batch U"]) -> jax.Array:
    """Mean over the last axis of the entries where `mask` holds; 0 where none does."""
    count = jnp.maximum(jnp.sum(mask, axis=-1), 1)
    return jnp.sum(jnp.where(mask, x, 0.0), axis=-1) / count.astype(x.dtype)
