"""One policy a seed, trained on the documents of a source while they are read."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.allocation.stream import equiprobable_policy
from ponderttt.environment.text import LiveText
from ponderttt.errors import InputError
from ponderttt.experiments.live_policy.config import LivePolicyConfig
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.protocol import Adapter
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.policies import FeatureExtractor
from ponderttt.prepare import tuning
from ponderttt.prepare.corpora import Texts, load_texts
from ponderttt.prepare.description import described, token_table, with_constants
from ponderttt.prepare.reader import Reader
from ponderttt.progress import ticker
from ponderttt.training.finite import NotFinite, check_finite
from ponderttt.training.policy_trainer import PolicyTrainer, World
from ponderttt.training.ppo import PPOConfig, PPOResult
from ponderttt.types import CHUNK_ACTIONS


class Trained(NamedTuple):
    """Policies of all seeds, and what they were trained in."""

    trainer: PolicyTrainer
    text: LiveText
    result: PPOResult

    @property
    def extractor(self) -> FeatureExtractor:
        """What made the features that they saw."""
        assert self.text.extractor is not None
        return self.text.extractor


def train(lm: TransformerLM, source: str, config: LivePolicyConfig) -> Trained:
    """Tune the inner rate, fit the features' constants, train; all on training documents."""
    load = partial(
        load_texts, lm, (source,), unit=config.chunk_size, units=config.units, seed=0
    )  # fmt: skip
    training = load(split="train", count=config.documents)
    if len(training) < config.at_once:
        raise InputError(
            f"{training.sources[0]} has {len(training)} training documents of {config.units} units "
            f"of {config.chunk_size} tokens: an iteration reads {config.at_once}; lower "
            "rollout_length, units or chunk_size"
        )
    if config.rate is None:
        validation = load(split="validation", count=max(1, config.documents // 2))
        adapter = _tuned(lm, training, validation)
    else:
        adapter = tuning.next_token(config.rate, config.clip)
    text = prepare_text(lm, adapter, training, budget=config.budget)
    ppo = PPOConfig(iterations=config.num_iterations, budget=config.budget)
    trainer = PolicyTrainer(ppo, documents=config.at_once)
    keys = jnp.stack([jax.random.key(seed) for seed in config.seeds])
    tick = ticker("rollouts", config.num_iterations * len(config.seeds))
    result = trainer.train(keys, World.of(text), tick=tick)
    return Trained(trainer, text, jax.block_until_ready(result))


def _tuned(lm: TransformerLM, training: Texts, validation: Texts) -> Adapter:
    return tuning.tune(
        Reader(lm, "switch", 0), tuning.next_token, tuning.NEXT_TOKEN_GRID, training, validation,
        budget=CHUNK_ACTIONS.costs[1], count=max(1, len(training) // 4),
    ).adapter  # fmt: skip


def prepare_text(
    lm: TransformerLM, adapter: Adapter, training: Texts, *, budget: float
) -> LiveText:
    """The training documents, with the features' constants where each action is as likely."""
    documents, hidden = training.corpus.batch(np.arange(len(training)))
    known = jnp.asarray(described(token_table(lm, training), training))
    raw = FeatureExtractor.raw(budget=budget)
    text = LiveText(lm, adapter, documents, hidden, raw, known)
    seen = text.run(equiprobable_policy(), key=jax.random.key(0))
    check_finite(
        seen.nll, ("document", "unit"), names={"document": training.paths}, remedy="lower --rate"
    )
    extractor = with_constants(raw, np.asarray(seen.features))
    return replace(text, extractor=extractor)


def histories(trained: Trained) -> list[dict[str, list]]:
    """Of each seed, every recorded quantity by iteration."""
    fields = trained.result.history._asdict()
    count = len(fields["reward"])
    return [
        {name: np.asarray(values[s]).round(6).tolist() for name, values in fields.items()}
        for s in range(count)
    ]


def first_failure(trained: Trained, seeds: Sequence[int]) -> NotFinite | None:
    """Where training ceased to give finite rewards, if it did: on axes iteration, seed."""
    try:
        rewards = np.asarray(trained.result.history.reward).T
        check_finite(rewards, ("iteration", "seed"), of="the reward", names={"seed": seeds})
    except NotFinite as error:
        return error
    return None


def inner_rate(trained: Trained) -> dict[str, float | None]:
    """The inner rate that was used, given or tuned, and its clip; from float32 as written."""
    rule = trained.text.adapter.rule
    assert isinstance(rule, SGD)
    clip = None if rule.clip is None else round(float(rule.clip), 6)
    return {"rate": round(float(rule.rate), 6), "clip": clip}
