"""The vocabulary head at SmolLM2's shapes, 512 tokens: against its matrix product alone."""

import subprocess
import sys

import jax
import jax.numpy as jnp

from ponderttt.bench.memory import peak_megabytes
from ponderttt.bench.row import Options, Row, lower_is_better
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.models.decoder.families import llama
from ponderttt.models.head import head_nll

LENGTH = 512
MEMORY_LIMIT = 300.0  # MB beyond the arrays that are given


def rows(options: Options) -> list[Row]:
    """Seconds of nll, and of nll with its gradient, over one product; and the peak memory."""
    arguments = _arguments()
    times = interleaved(
        {
            "product": seconds(jax.jit(lambda hidden, head, _: hidden @ head.T), *arguments),
            "nll": seconds(jax.jit(head_nll), *arguments),
            "gradient": seconds(_loss_and_gradient, *arguments),
        }
    )
    child = subprocess.run(
        [sys.executable, "-m", "ponderttt.bench.head"], capture_output=True, text=True, check=True
    )
    product = "its product alone"
    what = f"head, {LENGTH} tokens"
    return [
        lower_is_better(f"{what}: nll", times["nll"], product, times["product"], 1 / 1.1),
        lower_is_better(
            f"{what}: loss and gradient", times["gradient"], product, times["product"], 1 / 2.4
        ),
        lower_is_better(
            f"{what}: peak memory", float(child.stdout), "the limit", MEMORY_LIMIT, 1.0, "MB"
        ),
    ]


def _arguments():
    config = llama.smollm2_135m()
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (LENGTH, config.width))
    head = 0.02 * jax.random.normal(keys[1], (config.vocab_size, config.width))
    return hidden, head, jax.random.randint(keys[2], (LENGTH,), 0, config.vocab_size)


@jax.jit
def _loss_and_gradient(hidden, head, targets):
    return jax.value_and_grad(lambda h: jnp.mean(head_nll(h, head, targets)))(hidden)


def main() -> None:
    """Print by how many MB loss and gradient, compilation included, raise this process's peak."""
    # Zeros: drawing random numbers would raise the peak before the head does.
    arguments = [jnp.zeros(x.shape, x.dtype) for x in jax.eval_shape(_arguments)]
    jax.block_until_ready(arguments)
    before = peak_megabytes()
    jax.block_until_ready(_loss_and_gradient(*arguments))
    print(peak_megabytes() - before)


if __name__ == "__main__":
    main()
