"""PPO on documents, and the policy that comes out of it."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from ponderttt.environment.rollout import rollout
from ponderttt.environment.text import LiveText
from ponderttt.environment.tree import read_tree
from ponderttt.environment.walk import TreeEnvironment, features_at
from ponderttt.errors import InputError
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.models.policy_network import PolicyNetworkConfig, apply_policy, init_policy
from ponderttt.policies import FeatureExtractor, SchedulePolicy, UniformPolicy
from ponderttt.policies.actor_critic import Account, ActorCritic, load_policy, save_policy
from ponderttt.policies.features import DESCRIBED, NAMES
from ponderttt.training.policy_trainer import PolicyTrainer, World, collect
from ponderttt.training.ppo import PPOConfig
from ponderttt.types import CHUNK_ACTIONS, ActionSpace, Documents, Observation

N, U = 4, 8
KEY = jax.random.key(0)
COSTS = np.asarray(CHUNK_ACTIONS.costs)
NETWORK = PolicyNetworkConfig(hidden=8, layers=1)


@pytest.fixture(scope="module")
def world():
    lm, rng = TransformerLM.from_pretrained("tiny"), np.random.default_rng(0)
    tokens = rng.integers(97, 103, (6, N, U)).astype(np.int32)
    documents = Documents(jnp.asarray(tokens), jnp.ones(tokens.shape, bool), jnp.asarray(256))
    adapter = NextToken(SGD(jnp.asarray(2.0), jnp.asarray(0.2)))
    hidden = jnp.asarray(hidden_states(lm, documents, window=Window(U, overlap=False)))
    described = jnp.asarray(rng.normal(size=(6, N, len(DESCRIBED))), jnp.float32)
    extractor = FeatureExtractor.raw(budget=3.0).fit(rng.normal(size=(50, len(NAMES))))
    return World.of(LiveText(lm, adapter, documents, hidden, extractor, described))


def trainer(**how):
    config = PPOConfig(iterations=2, minibatches=2, epochs=2, network=NETWORK)
    return PolicyTrainer(config, documents=4, **how)


@pytest.fixture(scope="module")
def trained(world):
    return trainer().train(jax.random.split(KEY, 2), world)


def test_seeds_in_one_program_are_those_alone(world, trained):
    assert trained.history.reward.shape == (2, 2)
    assert not np.allclose(trained.history.reward[0], trained.history.reward[1])
    one = trainer().train(jax.random.split(KEY, 2)[1:], world)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(trained), strict=True):
        np.testing.assert_allclose(a[0], b[1], rtol=1e-3, atol=1e-4)


def test_reading_side_by_side_learns_the_same(world, trained):
    side_by_side = world._replace(environment=replace(world.environment, dispatch="masked"))
    masked = trainer().train(jax.random.split(KEY, 2), side_by_side)
    np.testing.assert_allclose(masked.history.reward, trained.history.reward, atol=1e-4)
    np.testing.assert_allclose(masked.history.cost, trained.history.cost)


def test_the_reward_is_the_gain_on_the_next_unit(world):
    params, text = init_policy(NETWORK, KEY), world.environment
    seen = collect(trainer(), params, KEY, world)
    assert seen.features.shape == (4, N, 32) and not seen.reward[:, -1].any()
    draw, act, _ = jax.random.split(KEY, 3)
    index = jax.random.permutation(jax.random.split(draw, 1)[0], 6)[:4]
    policy, documents = ActorCritic(params, NETWORK), text.documents.select(index)
    how = {
        "key": act, "dispatch": "switch", "hidden": text.hidden[index],
        "extractor": text.extractor, "described": text.described[index],
    }  # fmt: skip
    episode = rollout(text.lm, text.adapter, policy, documents, **how)
    np.testing.assert_array_equal(seen.action, episode.action)
    skip = rollout(text.lm, text.adapter, UniformPolicy("SKIP"), documents, **how)
    expected = skip.nll[:, 1:] - episode.nll[:, 1:]
    np.testing.assert_allclose(seen.reward[:, :-1], expected, atol=1e-6)
    updated = np.asarray(seen.action) > 0
    assert np.abs(np.asarray(seen.reward)[:, :-1][updated[:, :-1]]).min() > 0


@pytest.fixture(scope="module")
def tree_world(world):
    text = world.environment
    tree = read_tree(text.lm, text.adapter, text.documents, hidden=text.hidden)
    features = features_at(tree, text.extractor, text.described)
    return World.of(TreeEnvironment(tree, features).without_tokens())


def test_a_tree_gives_what_live_text_gives(world, tree_world):
    """Rewards of the actions taken, and every document as often as the others."""
    text = world.environment
    np.testing.assert_allclose(tree_world.skip_nll, world.skip_nll, atol=2e-4)
    policy = PolicyTrainer(PPOConfig(network=NETWORK), documents=12)
    seen = collect(policy, init_policy(NETWORK, KEY), KEY, tree_world)
    assert seen.reward.shape == (12, N - 1) and seen.mask.all()
    np.testing.assert_allclose(seen.cost, COSTS[np.asarray(seen.action)])
    position = NAMES.index("unigram_entropy")  # tells documents apart
    first = np.asarray(seen.features)[:, 0, position].round(4)
    assert np.unique(first, return_counts=True)[1].tolist() == [2] * 6
    known = np.asarray(tree_world.environment.features)
    for action, reward, value in zip(seen.action[:3], seen.reward[:3], first[:3], strict=True):
        b = int(np.argmin(np.abs(known[:, 0, position] - value)))
        schedule = SchedulePolicy(jnp.eye(4)[np.append(np.asarray(action), 0)])
        episode = rollout(
            text.lm, text.adapter, schedule, text.documents.select(np.asarray([b])), key=KEY,
            hidden=text.hidden[b : b + 1],
        )  # fmt: skip
        gain = world.skip_nll[b, 1:] - episode.nll[0, 1:]
        np.testing.assert_allclose(reward, gain, atol=2e-4)


def test_jitter_blurs_what_is_seen_and_nothing_else(world, tree_world):
    params = jax.tree.map(jnp.zeros_like, init_policy(NETWORK, KEY))  # looks at nothing
    plain, blurred = (
        collect(
            PolicyTrainer(PPOConfig(network=NETWORK), documents=6, jitter=j), params, KEY,
            tree_world,
        )
        for j in (0.0, 0.5)
    )  # fmt: skip
    np.testing.assert_array_equal(plain.reward, blurred.reward)
    noise = np.asarray(blurred.features - plain.features)
    assert noise.std() == pytest.approx(0.5, rel=0.1) and abs(noise.mean()) < 0.1
    with pytest.raises(InputError, match="jitter is 0.5 on live text"):
        trainer(jitter=0.5).train(jax.random.split(KEY, 1), world)


def test_a_cost_bias_makes_what_costs_rarer():
    params = init_policy(NETWORK, KEY)
    x = jax.random.normal(KEY, (50, 32))
    policy = PolicyTrainer(PPOConfig(network=NETWORK))
    plain = apply_policy(NETWORK, params, x).logits
    biased = apply_policy(NETWORK, policy.with_cost_bias(params, jnp.asarray(0.2)), x).logits
    np.testing.assert_allclose(biased, plain - 0.2 * COSTS[None], atol=1e-5)


def test_too_many_documents_are_refused(world):
    with pytest.raises(InputError, match="7 documents an iteration: expected at most the 6"):
        PolicyTrainer(PPOConfig(network=NETWORK), documents=7).train(
            jax.random.split(KEY, 1), world
        )


@given(
    st.integers(0, 2**31 - 1), st.floats(1.0, 12.0), st.floats(0.0, 3.0),
    st.floats(-3.0, 3.0),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_hard_budget_is_never_overdrawn(seed, budget, credit, push):
    """Whatever the features are, over three documents in a row, by a policy that likes to spend."""
    key = jax.random.key(seed)
    params = init_policy(NETWORK, key)
    params["logit_bias"].set_value(push * jnp.arange(4.0))
    policy = ActorCritic(params, NETWORK, Account.open(budget, credit_units=credit))
    spent, units, state = 0.0, 0, policy.init(key)
    for document in range(3):
        actions, state = _decide(policy, policy.reset(state), jax.random.fold_in(key, document))
        costs = COSTS[np.asarray(actions)]
        for cost in costs:
            spent, units = spent + cost, units + 1
            assert spent <= budget * (units + credit) + 1e-2
    assert float(state) == pytest.approx(budget * units - spent, abs=1e-2)


@jax.jit
def _decide(policy, state, key):
    """12 units of random features."""
    features = 3 * jax.random.normal(key, (12, 32))

    def step(carry, x):
        spent, state = carry
        n, features, key = x
        zero = jnp.zeros(())
        seen = Observation(n, jnp.zeros(U), jnp.ones(U, bool), zero, zero, spent, zero, zero,
                           features)  # fmt: skip
        decision, state = policy.act(state, seen, key)
        cost = jnp.asarray(CHUNK_ACTIONS.costs)[decision.action]
        return (spent + cost, state), decision.action

    keys = jax.random.split(key, 12)
    (_, state), actions = jax.lax.scan(
        step, (jnp.zeros(()), state), (jnp.arange(12), features, keys)
    )
    return actions, state


def test_the_account_goes_on_in_the_next_document(world):
    """Over a stream with padding, which pays nothing in; what is left is there for the next."""
    policy = ActorCritic(init_policy(NETWORK, KEY), NETWORK, Account.open(2.1))
    text = world.environment
    mask = np.asarray(text.documents.mask).copy()
    mask[1, 2:] = False
    episode = rollout(
        text.lm, text.adapter, policy, text.documents._replace(mask=jnp.asarray(mask)), key=KEY,
        extractor=text.extractor, described=text.described,
    )  # fmt: skip
    real = mask.any(axis=-1)
    left = 2.1 * np.cumsum(real) - np.cumsum(np.asarray(episode.cost))
    np.testing.assert_allclose(np.asarray(episode.state).reshape(-1), left, atol=1e-4)
    assert (left > -1e-4).all() and not np.asarray(episode.cost)[~real].any()


def test_a_learned_policy_does_not_look_ahead(world):
    policy = ActorCritic(init_policy(NETWORK, KEY), NETWORK, Account.open(3.0, credit_units=2))

    text = world.environment

    def read(documents):
        return rollout(text.lm, text.adapter, policy, documents, key=KEY,
                       extractor=text.extractor, described=text.described[:1])  # fmt: skip

    documents = text.documents.select(slice(0, 1))
    before = read(documents)
    for position in (U, 2 * U + 3, N * U - 1):
        flat = np.asarray(documents.tokens).reshape(1, -1).copy()
        flat[0, position] = 50
        after = read(documents._replace(tokens=jnp.asarray(flat.reshape(1, N, U))))
        unit = position // U
        for name in ("action", "log_prob", "value", "features"):
            np.testing.assert_array_equal(
                getattr(after, name)[:, :unit], getattr(before, name)[:, :unit], err_msg=name
            )
        losses = [np.asarray(e.token_nll).reshape(-1) for e in (after, before)]
        np.testing.assert_array_equal(losses[0][:position], losses[1][:position])


def test_a_policy_file_comes_back_whole(world, trained, tmp_path):
    policy = trainer().policy(trained, 1)
    save_policy(tmp_path / "policy.safetensors", policy, world.environment.extractor)
    again, extractor = load_policy(tmp_path / "policy.safetensors")
    whole = policy, world.environment.extractor
    for a, b in zip(jax.tree.leaves((again, extractor)), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    other = ActionSpace(("SKIP", "UPDATE_1"), (0, 1), (1.0, 3.0))
    with pytest.raises(InputError, match="was trained with the actions SKIP, UPDATE_1, UPDATE_2"):
        load_policy(tmp_path / "policy.safetensors", actions=other)
    with safetensors.safe_open(tmp_path / "policy.safetensors", "numpy") as file:
        meta = json.loads(file.metadata()["ponderttt"]) | {"features": 99}
        leaves = {name: file.get_tensor(name) for name in file.keys()}
    (tmp_path / "later").write_bytes(save(leaves, metadata={"ponderttt": json.dumps(meta)}))
    with pytest.raises(InputError, match="version 99 of the features"):
        load_policy(tmp_path / "later")
    (tmp_path / "cut").write_bytes((tmp_path / "later").read_bytes()[:-9])
    for name in ("cut", "absent"):
        with pytest.raises(InputError, match="no policy file"):
            load_policy(tmp_path / name)
