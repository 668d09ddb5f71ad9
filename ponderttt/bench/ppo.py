"""PPO: collection in one program, what features and policy add to it, and seeds side by side."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ponderttt.bench.row import Options, Row, higher_is_better, lower_is_better
from ponderttt.environment.reading import open_text, views
from ponderttt.environment.text import LiveText
from ponderttt.evaluation.flops import policy_flops, score_flops
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.inner import adapt
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import token_losses
from ponderttt.models.decoder.families import llama
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.policy_network import PolicyNetworkConfig, init_policy, log_policy
from ponderttt.policies import ActorCritic, FeatureExtractor, SchedulePolicy
from ponderttt.policies.features import DESCRIBED
from ponderttt.training import PIDLagrangianPPO, PPOConfig, Trajectories
from ponderttt.training.policy_trainer import PolicyTrainer, World, collect
from ponderttt.types import CHUNK_ACTIONS, Documents

SEEDS = 10


def rows(options: Options) -> list[Row]:
    """Decisions a second against a Python loop; overhead of the policy; 10 seeds against one."""
    return [_decisions(), *_overhead(), _seeds()]


def _text(lm: TransformerLM, count: int, units: int, length: int, rate: float) -> LiveText:
    shape = (count, units, length)
    vocabulary = min(lm.config.vocab_size, 50_000)
    tokens = jax.random.randint(jax.random.key(0), shape, 0, vocabulary)
    documents = Documents(tokens, jnp.ones(shape, bool), jnp.zeros((), jnp.int32))
    hidden = jax.random.normal(jax.random.key(1), (*shape, lm.config.width))
    described = jax.random.normal(jax.random.key(2), (count, units, len(DESCRIBED)))
    extractor = FeatureExtractor.raw(budget=3.0)
    return LiveText(lm, NextToken(SGD(jnp.asarray(rate))), documents, hidden, extractor, described)


def _decisions() -> Row:
    """The tiny model: a rollout in one program, against the same stepped from Python."""
    count, units, length = 8, 8, 16
    text = _text(TransformerLM.from_pretrained("tiny"), count, units, length, 0.1)
    world = World(text, jnp.zeros((count, units)))
    trainer = PolicyTrainer(PPOConfig(), documents=count)
    params = init_policy(PolicyNetworkConfig(), jax.random.key(0))
    together = jax.jit(partial(collect, trainer))
    lm, adapter = text.lm, text.adapter

    @jax.jit
    def view_of(document, n):
        one = jax.tree.map(lambda x: x[document], opened)
        return views(lm, adapter, one, window)(n, ())

    def states(fast, view):
        return adapter.read(lm, fast, view, learns=False).hidden

    opened, window = open_text(lm, adapter, text.documents, text.hidden, None)
    score = jax.jit(lambda fast, v: token_losses(lm, states(fast, v), v.tokens))
    choose = jax.jit(lambda x: jnp.argmax(log_policy(PolicyNetworkConfig(), params, x)))
    step = jax.jit(
        lambda fast, v, steps: adapt(
            fast, v, steps, gradient=lambda f, v: adapter.gradient(lm, f, v), rule=adapter.rule,
            max_steps=4, dispatch="switch",
        )
    )  # fmt: skip

    def stepped():
        losses = []
        for document in range(count):
            fast = adapter.init(lm)
            for n in range(units):
                view = view_of(document, n)
                loss = score(fast, view)
                features = jnp.zeros(32).at[0].set(jnp.mean(loss))
                action = int(choose(features))
                fast = step(fast, view, jnp.asarray(CHUNK_ACTIONS.steps[action]))
                losses.append(loss)
        return losses

    times = interleaved(
        {
            "together": seconds(together, params, jax.random.key(3), world),
            "stepped": seconds(stepped),
        },
        repeats=5,
    )
    rate, other = (count * units / times[name] for name in ("together", "stepped"))
    name = "PPO collection, tiny model"
    return higher_is_better(name, rate, "stepped from Python", other, 10.0, "decisions/s")


def _overhead() -> list[Row]:
    """SmolLM2's shape: the same actions with and without features, policy and entropies."""
    units, length = 8, 256
    text = _text(TransformerLM.random(llama.smollm2_135m()), 1, units, length, 0.0)
    bare_text = replace(text, extractor=None, described=None)
    policy = ActorCritic(init_policy(PolicyNetworkConfig(), jax.random.key(0)))
    key = jax.random.key(4)

    def decided():
        return text.run(policy, key=key)

    taken = np.asarray(decided().action[0])
    schedule = SchedulePolicy(jnp.eye(len(CHUNK_ACTIONS.names))[taken])

    def bare():
        return bare_text.run(schedule, key=key).nll

    times = interleaved(
        {"decided": seconds(lambda: decided().nll), "bare": seconds(bare)}, repeats=5
    )
    flops = policy_flops(32, 64, 2, len(CHUNK_ACTIONS.names))
    unit = length * score_flops(text.lm.config)
    return [
        lower_is_better(
            f"PPO collection, SmolLM2-135M's shape, {units} units of {length}", times["decided"],
            "adapt and score alone", times["bare"], 1 / 1.1,
        ),
        lower_is_better(
            "a decision of the policy", flops / 1e6, "1 % of scoring the unit", unit / 1e8, 1.0,
            "MFLOP",
        ),
    ]  # fmt: skip


def _seeds() -> Row:
    """The policy's side of 10 iterations of 256 decisions: collection costs nothing here."""
    ppo = PIDLagrangianPPO(PPOConfig(iterations=10))
    features = jax.random.normal(jax.random.key(0), (32, 8, 32))
    mask = jnp.ones((32, 8), bool)

    def evaluate(params, key) -> Trajectories:
        log_probs = log_policy(ppo.config.network, params, features)
        noise = jax.random.gumbel(key, (log_probs.size,)).reshape(log_probs.shape)
        action = jnp.argmax(log_probs + noise, axis=-1)
        costs = jnp.asarray(CHUNK_ACTIONS.costs)[action]
        return Trajectories(features, action, jnp.tanh(features[..., 0]) * costs, costs, mask)

    train = jax.jit(jax.vmap(lambda key: ppo.train(key, evaluate).history))
    keys = jax.random.split(jax.random.key(1), SEEDS)
    times = interleaved({"ten": seconds(train, keys), "one": seconds(train, keys[:1])}, repeats=5)
    name = f"PPO, {SEEDS} seeds side by side: policy side, 10 iterations of 256 decisions"
    return lower_is_better(name, times["ten"], "one seed", times["one"], 1 / 4)
