"""Train a policy that decides how many steps each unit of text gets, under a budget.

`python -m ponderttt.experiments.train_policy --model_scale 125m --num_iterations 10 --output_dir D`
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ponderttt.checks import Bounds, Count, NonNegative, Positive, Seed, check
from ponderttt.errors import InputError
from ponderttt.experiments.command import Device, run_module, use_device
from ponderttt.experiments.train_baseline import load_scale
from ponderttt.prepare.inputs import SourceName
from ponderttt.storage import writable_folder, write_text
from ponderttt.types import CHUNK_ACTIONS

DOCUMENT_UNITS = 32
"""`budget_limit` is counted against a document of so many units."""


@dataclass(frozen=True)
class TrainPolicyConfig:
    """PPO with a PID-Lagrangian: spend the budget where updating gains most on what follows."""

    model_scale: Literal["125m", "350m", "1b"] = "125m"
    """GPT-2's scales; offline, 125m is SmolLM2-135M from its wheel."""
    num_iterations: Count = 10
    """Each collects `rollout_length` units and takes 4 epochs of PPO."""
    output_dir: Path = Path("outputs/policy")
    """Where <model_scale>/results.json and the policies go."""
    budget_limit: float = 100.0
    """Nominal cost that a document of 32 units may have: 100 is 3.125 a unit."""
    rollout_length: Count = 64
    """Units an iteration; the published runs take 256."""
    units: Annotated[int, Bounds(2, why="a step pays on the next unit")] = 8
    """Units of a document."""
    chunk_size: Count = 128
    """Tokens per unit, which is the model's attention window."""
    documents: Count = 16
    """Training documents to draw from."""
    seeds: tuple[Seed, ...] = (0,)
    """One policy each."""
    rate: NonNegative = 8.0
    """Inner rate of the additive map on the last hidden state (next-token objective)."""
    clip: Positive = 0.05
    """Bound on the norm of its gradient."""
    source: SourceName = "stdlib"
    """A named source, or a folder of files of your own."""
    use_real_data: bool = False
    """Read The Stack from the hub (gated) instead of `source`."""
    device: Device | None = None
    """Backend; the default is whatever JAX finds."""

    def __post_init__(self):
        check(self)
        if self.rollout_length % self.units:
            raise InputError(
                f"rollout_length {self.rollout_length} is not a number of documents of "
                f"{self.units} units: expected a multiple"
            )
        if self.rollout_length // self.units > self.documents:
            raise InputError(
                f"an iteration reads {self.rollout_length // self.units} documents: expected "
                f"documents to be as many, not {self.documents}"
            )
        least = DOCUMENT_UNITS * CHUNK_ACTIONS.costs[0]
        if self.budget_limit < least:
            raise InputError(
                f"a budget_limit of {self.budget_limit:g} is infeasible: never updating costs "
                f"{least:g} on {DOCUMENT_UNITS} units, expected that or more"
            )

    @property
    def budget(self) -> float:
        """Mean cost a unit."""
        return self.budget_limit / DOCUMENT_UNITS


def run(config: TrainPolicyConfig) -> dict:
    """Train, printing as it goes; writes the results and one policy file a seed."""
    use_device(config.device)
    folder = writable_folder(config.output_dir / config.model_scale)
    lm, sentence = load_scale(config.model_scale)
    print(sentence, flush=True)
    trainer, world = _trainer(config), _world(lm, config)
    result = _train(config, trainer, world)
    histories = [_history(result, s) for s in range(len(config.seeds))]
    for seed, history in zip(config.seeds, histories, strict=True):
        _print_history(seed, history)
    content = {
        "config": asdict(config)
        | {"output_dir": None, "model": lm.name, "dtype": lm.dtype, "budget": config.budget},
        "actions": list(CHUNK_ACTIONS.names),
        "seeds": {str(s): h for s, h in zip(config.seeds, histories, strict=True)},
    }
    _save(config, folder, trainer, world, result)
    write_text(folder / "results.json", json.dumps(content, indent=1) + "\n")
    print(f"Results: {folder / 'results.json'}")
    return content


def _trainer(config: TrainPolicyConfig):
    from ponderttt.training.policy_trainer import PolicyTrainer
    from ponderttt.training.ppo import PPOConfig

    ppo = PPOConfig(iterations=config.num_iterations, budget=config.budget)
    return PolicyTrainer(ppo, documents=config.rollout_length // config.units)


def _world(lm, config: TrainPolicyConfig):
    """The training documents, read once without and once with updates of every kind."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ponderttt.data import get_tokenizer, load_documents
    from ponderttt.environment.text import LiveText
    from ponderttt.models.adapters.next_token import NextToken
    from ponderttt.models.decoder.hidden import cached_states
    from ponderttt.policies import FeatureExtractor, RandomPolicy
    from ponderttt.policies.features import TokenTable, describe
    from ponderttt.training.policy_trainer import World

    tokenizer = get_tokenizer(lm.tokenizer_name)
    corpus = load_documents(
        "the-stack" if config.use_real_data else config.source, tokenizer, split="train",
        unit=config.chunk_size, units=config.units, min_units=config.units,
        max_documents=config.documents, seed=0,
    )  # fmt: skip
    found = len(corpus)
    if found < config.rollout_length // config.units:
        raise InputError(
            f"{corpus.source} has {found} training documents of {config.units} units of "
            f"{config.chunk_size} tokens: an iteration reads "
            f"{config.rollout_length // config.units}; lower rollout_length, units or chunk_size"
        )
    documents = jax.tree.map(jnp.asarray, corpus.documents)
    states = cached_states(
        lm, documents, chunk=config.chunk_size,
        progress=lambda done, total: print(f"Document {done}/{total} read", flush=True),
    )  # fmt: skip
    hidden = jnp.asarray(np.stack([s.hidden for s in states]))
    tokens, mask = np.asarray(documents.tokens), np.asarray(documents.mask)
    table = TokenTable.fit(tokenizer, tokens, states[0].hidden)
    described = jnp.asarray(
        np.stack([describe(table, tokens[i], mask[i], *states[i]) for i in range(found)])
    )
    adapter = NextToken(jnp.asarray(config.rate), jnp.asarray(config.clip))
    raw = FeatureExtractor.raw(budget=config.budget)

    text = LiveText(lm, adapter, documents, hidden, raw, described)
    mix = RandomPolicy(jnp.full(len(CHUNK_ACTIONS.names), 1 / len(CHUNK_ACTIONS.names)))
    features = np.asarray(text.run(mix, key=jax.random.key(0)).features)
    extractor = raw.fit(features.reshape(-1, features.shape[-1]))
    return World.of(replace(text, extractor=extractor))


def _train(config: TrainPolicyConfig, trainer, world):
    import jax
    import jax.numpy as jnp

    total = config.num_iterations * len(config.seeds)
    print(
        f"Training {len(config.seeds)} policies, {config.num_iterations} iterations of "
        f"{config.rollout_length} units at {config.budget:g} a unit...",
        flush=True,
    )
    done: list[int] = []

    def tick() -> None:
        done.append(1)
        print(f"Rollout {len(done)}/{total}", flush=True)

    keys = jnp.stack([jax.random.key(seed) for seed in config.seeds])
    return jax.block_until_ready(trainer.train(keys, world, tick=tick))


def _history(result, seed: int) -> dict[str, Any]:
    import numpy as np

    return {
        name: np.asarray(values[seed]).round(6).tolist()
        for name, values in result.history._asdict().items()
    }


def _print_history(seed: int, history: dict[str, Any]) -> None:
    count = len(history["reward"])
    for i in range(count):
        print(
            f"Seed {seed}, iteration {i + 1}/{count}: reward={history['reward'][i]:+.4f} "
            f"cost={history['cost'][i]:.3f} multiplier={history['multiplier'][i]:.4f}"
        )


def _save(config: TrainPolicyConfig, folder: Path, trainer, world, result) -> None:
    from ponderttt.policies.actor_critic import save_policy

    for s, seed in enumerate(config.seeds):
        path = folder / f"policy-{seed}.safetensors"
        save_policy(path, trainer.policy(result, s), world.environment.extractor)


if __name__ == "__main__":
    run_module(TrainPolicyConfig, run, __doc__)
