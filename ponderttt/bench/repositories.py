"""Reading a repository with a step a unit: its seconds, its FLOPs, and its memory by the length."""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.bench.memory import peak_megabytes
from ponderttt.bench.row import Options, Row, lower_is_better
from ponderttt.environment.rollout import read_part, rollout
from ponderttt.evaluation.flops import forward_flops, suffix_flops
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.inner.update_rules import OnlineRMS
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.models.decoder.families import llama
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.models.head import head_nll
from ponderttt.policies import UniformPolicy
from ponderttt.types import Documents


class Scale(NamedTuple):
    """What is read, and by which model."""

    config: DecoderConfig
    units: int
    length: int = 256
    window: int = 2048
    suffix_blocks: int = 4


READ = Scale(llama.smollm2_135m(), units=16)
KEPT = READ._replace(units=32)
# States as wide as SmolLM2's and little besides, so that whatever grows with them is seen.
MAPPED = Scale(
    llama.config(
        vocab_size=256, width=576, layers=1, heads=9, kv_heads=3, hidden=64, max_positions=512
    ),
    units=32, window=512, suffix_blocks=1,
)  # fmt: skip
PART = 8
LONGER = 4
KEY = jax.random.key(0)
UPDATE, SKIP = UniformPolicy("UPDATE_1"), UniformPolicy("SKIP")
SLOWER, STEP, GROWTH = 1.6, 0.5, 1.05  # at most


def rows(options: Options) -> list[Row]:
    """Seconds and FLOPs over the forward's; memory over that of a text a quarter as long."""
    return [*time_rows(READ), flops_row(READ), kept_row(KEPT), process_row(MAPPED.units)]


def time_rows(scale: Scale, repeats: int = 2) -> list[Row]:
    """Seconds of reading with updates, and of its steps alone, over those of the forward."""
    lm, adapter, window = TransformerLM.random(scale.config), _adapter(scale), Window(scale.window)
    documents = _documents(scale)

    def forward():
        hidden = jnp.asarray(hidden_states(lm, documents, window=window))
        return _losses(lm, hidden, documents.tokens)

    def states():
        return hidden_states(lm, documents, window=window, suffix_blocks=scale.suffix_blocks)

    hidden = jax.random.normal(KEY, (*documents.tokens.shape, lm.config.width))

    def read(policy):
        return rollout(
            lm, adapter, policy, documents, key=KEY, dispatch="switch", window=window, hidden=hidden
        ).nll

    times = interleaved(
        {
            "forward": seconds(forward),
            "states": seconds(states),
            "update": seconds(read, UPDATE),
            "skip": seconds(read, SKIP),
        },
        repeats=repeats,
    )
    peer = "the frozen forward with loss"
    what = f"{scale.units} units of {scale.length}, window {scale.window}"
    return [
        lower_is_better(
            f"reading, a step a unit, {what}", times["states"] + times["update"],
            peer, times["forward"], 1 / SLOWER,
        ),
        lower_is_better(
            f"a step a unit alone, {what}", times["update"] - times["skip"],
            peer, times["forward"], 1 / STEP,
        ),
    ]  # fmt: skip


@jax.jit
def _losses(lm: TransformerLM, hidden, tokens):
    return jax.lax.map(lambda unit: head_nll(unit[0], lm.head, unit[1]), (hidden[0], tokens[0]))


def flops_row(scale: Scale) -> Row:
    """A step's FLOPs a token over the forward's, both at the whole window."""
    forward = forward_flops(scale.config, scale.window)
    step = suffix_flops(scale.config, scale.window, scale.suffix_blocks, unit=scale.length).step
    name = f"a step a unit alone, window {scale.window}: model FLOPs a token"
    return lower_is_better(
        name, step / 1e6, "the frozen forward with loss", forward / 1e6, 1 / STEP, "MFLOP"
    )


def kept_row(scale: Scale) -> Row:
    """What reading a part of a document takes, by the document's length: from the compiler.

    All but the model and the text (its tokens and states): what is carried, what is made on the
    way, and what is recorded of the part.
    """
    short, long = scale, scale._replace(units=LONGER * scale.units)
    name = f"reading {PART} of {long.units} units, beside the model and the text: memory"
    return lower_is_better(
        name, _part_megabytes(long), f"of {short.units} units", _part_megabytes(short),
        1 / GROWTH, "MB",
    )  # fmt: skip


def _part_megabytes(scale: Scale) -> float:
    lm, documents = jax.eval_shape(lambda: (TransformerLM.random(scale.config), _documents(scale)))
    hidden = jax.ShapeDtypeStruct((*documents.tokens.shape, scale.config.width), jnp.float32)
    first = partial(_read_part, scale, units=range(PART), carry=None)
    carry = jax.eval_shape(lambda *text: first(*text)[1], lm, documents, hidden)
    after = jax.jit(partial(_read_part, scale, units=range(PART, 2 * PART)))
    memory = after.lower(lm, documents, hidden, carry=carry).compile().memory_analysis()
    assert memory is not None  # every backend that we name has it
    carried = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(carry))
    return (carried + memory.temp_size_in_bytes + memory.output_size_in_bytes) / 1e6


def process_row(units: int) -> Row:
    """By how much reading part after part raises a process's peak, states mapped from a file."""
    short, long = (
        float(
            subprocess.run(
                [sys.executable, "-m", "ponderttt.bench.repositories", str(count)],
                capture_output=True, text=True, check=True,
            ).stdout
        )
        for count in (units, LONGER * units)
    )  # fmt: skip
    name = f"reading {LONGER * units} units, one block, states mapped from a file: process peak"
    return lower_is_better(name, long, f"{units} units", short, 1 / GROWTH, "MB")


def _documents(scale: Scale) -> Documents:
    shape = (1, scale.units, scale.length)
    tokens = jax.random.randint(KEY, shape, 0, scale.config.vocab_size)
    return Documents(tokens, jnp.ones(shape, bool), jnp.zeros((), int))


def _adapter(scale: Scale) -> NextToken:
    return NextToken(OnlineRMS(3e-4), suffix_blocks=scale.suffix_blocks)


def _read_part(scale: Scale, lm: TransformerLM, documents: Documents, hidden, *, units, carry):
    return read_part(
        lm, _adapter(scale), UPDATE, documents,
        key=KEY, units=units, carry=carry, window=Window(scale.window), hidden=hidden,
    )  # fmt: skip


def main() -> None:
    """Print this process's peak in MB, after it has read so many units a part at a time."""
    scale = MAPPED._replace(units=int(sys.argv[1]))
    lm, documents, carry = TransformerLM.random(scale.config), _documents(scale), None
    shape = (*documents.tokens.shape, scale.config.width)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "states"
        with path.open("wb") as file:
            for unit in range(scale.units):
                np.random.default_rng(unit).standard_normal(shape[2:], np.float32).tofile(file)
        for start in range(0, scale.units, PART):
            # Mapped anew: what was read of the file before is not this process's any more.
            hidden = np.memmap(path, np.float32, "r", shape=shape)
            units = range(start, start + PART)
            episode, carry = _read_part(scale, lm, documents, hidden, units=units, carry=carry)
            jax.block_until_ready(episode.nll)
    print(peak_megabytes())


if __name__ == "__main__":
    main()
