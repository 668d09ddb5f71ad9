"""The exhaustive tree against rollouts, and environments against each other."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt import pytree
from ponderttt.environment.beam import search
from ponderttt.environment.protocol import Environment
from ponderttt.environment.rollout import rollout
from ponderttt.environment.text import LiveText
from ponderttt.environment.tree import (
    enumerate_allocations,
    first_nodes,
    path_nodes,
    read_tree,
    units_of,
)
from ponderttt.environment.walk import TreeEnvironment, features_at
from ponderttt.errors import InputError
from ponderttt.inner.update_rules import SGD, OnlineRMS
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.hidden import cached_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.models.policy_network import PolicyNetworkConfig, init_policy
from ponderttt.policies import (
    ActorCritic,
    EMAGate,
    EntropyBasedPolicy,
    FeatureExtractor,
    GradientNormBasedPolicy,
    PerplexityBasedPolicy,
    RandomPolicy,
    SchedulePolicy,
    ThresholdBandit,
)
from ponderttt.policies.actor_critic import Account
from ponderttt.policies.features import GROUPS, NAMES, TokenTable, describe
from ponderttt.types import CHUNK_ACTIONS, Documents

B, N, U = 3, 4, 16
ADAPTER = NextToken(SGD(jnp.asarray(2.0), jnp.asarray(0.2)))
KEY = jax.random.key(3)


class World:
    """A tiny model, a few documents, their tree and their features."""

    def __init__(self):
        self.lm = TransformerLM.from_pretrained("tiny")
        rng = np.random.default_rng(0)
        tokens = rng.integers(97, 110, (B, N, U)).astype(np.int32)
        self.documents = Documents(tokens, np.ones(tokens.shape, bool), np.asarray(256))
        states = cached_states(self.lm, self.documents, window=Window(U, overlap=False))
        self.hidden = np.stack([s.hidden for s in states])
        classes, frequency = np.zeros(512, np.int8), np.zeros(512, np.float32)
        table = TokenTable(classes, frequency, float(self.hidden.std()))
        self.described = np.stack(
            [describe(table, tokens[b], self.documents.mask[b], *states[b]) for b in range(B)]
        )
        self.tree = read_tree(self.lm, ADAPTER, self.documents, hidden=self.hidden)
        scale = 1.0 + np.arange(len(NAMES)) / 10
        raw = FeatureExtractor.raw(budget=3.0)
        self.extractor = raw.fit(np.stack([scale, -scale, 0.5 * scale]))
        features = features_at(self.tree, self.extractor, self.described)
        self.environment = TreeEnvironment(self.tree, features)
        self.text = LiveText(
            self.lm, ADAPTER, jax.tree.map(jnp.asarray, self.documents), jnp.asarray(self.hidden),
            self.extractor, jnp.asarray(self.described),
        )  # fmt: skip

    def rollout(self, policy):
        return rollout(
            self.lm, ADAPTER, policy, self.documents, key=KEY, hidden=self.hidden,
            extractor=self.extractor, described=self.described,
        )  # fmt: skip

    def walk(self, policy, *, key=KEY, part=slice(None), state=None):
        return self.environment.select(part).run(policy, key=key, state=state)


@pytest.fixture(scope="module")
def world():
    return World()


NETWORK = PolicyNetworkConfig()
POLICIES = {
    "random": lambda: RandomPolicy(jnp.asarray([0.4, 0.3, 0.2, 0.1])),
    "schedule": lambda: SchedulePolicy.first("UPDATE_2", 3.0, N),
    "entropy": lambda: EntropyBasedPolicy(jnp.asarray([5.0, 5.3, 5.5])),
    "gradient norm": lambda: GradientNormBasedPolicy(jnp.asarray([0.2, 0.3, 0.4])),
    "perplexity": lambda: PerplexityBasedPolicy(jnp.asarray([100.0, 200.0, 300.0])),
    "bandit": lambda: ThresholdBandit(
        jax.random.normal(jax.random.key(1), (len(NAMES) + 1, 4)), jnp.asarray(0.1)
    ),
    "network": lambda: ActorCritic(init_policy(NETWORK, jax.random.key(2)), NETWORK),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_walk_is_the_rollout_of_the_same_policy(world, name):
    """Same draws, same actions, same losses; only the last action has nothing to decide."""
    policy = POLICIES[name]()
    walked, read = world.walk(policy), world.rollout(policy)
    np.testing.assert_array_equal(walked.action[:, :-1], read.action[:, :-1])
    assert not walked.action[:, -1].any() and (walked.cost[:, -1] == 1).all()
    for field in ("token_nll", "nll", "inner_loss"):
        np.testing.assert_allclose(getattr(walked, field), getattr(read, field), atol=2e-4)
    for field in ("entropy", "cost", "log_prob", "features"):
        a, b = getattr(walked, field)[:, :-1], getattr(read, field)[:, :-1]
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_a_rule_that_remembers_does_so_along_every_path(world):
    """The tree and the beam carry its state: allocations lose what their rollouts lose."""
    adapter = NextToken(OnlineRMS(jnp.asarray(0.05), pull=0.1))
    tree = read_tree(world.lm, adapter, world.documents, hidden=world.hidden)
    for actions in np.asarray([(1, 1, 1, 0), (3, 0, 2, 0), (0, 2, 3, 0)]):
        read = rollout(
            world.lm, adapter, SchedulePolicy(jnp.eye(4)[actions]), world.documents, key=KEY,
            hidden=world.hidden,
        )  # fmt: skip
        np.testing.assert_array_equal(read.action[0], actions)
        losses = tree.token_nll[:, path_nodes(actions)]
        np.testing.assert_allclose(losses, read.token_nll, atol=2e-4)
    found = search(world.lm, adapter, world.documents, hidden=world.hidden, width=2)
    for nll, actions, loss in zip(tree.nll, found.action, found.loss, strict=True):
        expected = nll[path_nodes(np.asarray(actions))].sum(axis=1)
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


@dataclass(frozen=True)
class CheapestLast:
    """A policy whose last decision in a document is not binding: what a tree does, in `rollout`."""

    inner: Any

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "inner"), name)

    def act(self, state, observation, key):
        binding = observation.unit < N - 1
        decision, state = self.inner.act(state, observation._replace(binding=binding), key)
        return decision._replace(action=jnp.where(binding, decision.action, 0)), state


pytree.register(CheapestLast)


def followers(world):
    losses = np.asarray(world.tree.inner_loss)[:, 0]
    params = init_policy(NETWORK, KEY)
    return {
        "gate": EMAGate.calibrate(losses, target=0.4),
        "delta gate": EMAGate.calibrate(losses, target=0.4, signal="delta"),
        "residual gate": EMAGate.calibrate(losses, target=0.4, growth=1.02),
        "account": ActorCritic(params, NETWORK, Account.open(2.0)),
        "account with credit": ActorCritic(params, NETWORK, Account.open(2.3, credit_units=1.5)),
    }


@pytest.mark.parametrize(
    "name", ["gate", "delta gate", "residual gate", "account", "account with credit"]
)
def test_a_policy_that_follows_the_stream_does_so_everywhere(world, name):
    """Several documents: the tree and the text give the same actions, losses and states."""
    policy = followers(world)[name]
    walked, read = world.walk(policy), world.rollout(CheapestLast(policy))
    np.testing.assert_array_equal(walked.action[:, :-1], read.action[:, :-1])
    np.testing.assert_allclose(walked.nll, read.nll, atol=2e-4)
    for a, b in zip(jax.tree.leaves(walked.state), jax.tree.leaves(read.state), strict=True):
        assert a.shape == (B, N)
        np.testing.assert_allclose(a, b, atol=2e-4)
    if "account" in name:
        spent = np.cumsum(np.asarray(walked.cost).reshape(-1))
        budget, credit = float(policy.account.budget), float(policy.account.credit)
        paid_in = budget * np.arange(1, B * N + 1)
        assert (spent <= paid_in + credit + 1e-4).all()
        np.testing.assert_allclose(walked.state.reshape(-1), paid_in - spent, atol=1e-4)
    afresh = world.walk(policy, part=slice(1, None))
    started = jax.tree.map(lambda a, b: not np.allclose(a[0], b[1]), afresh.state, walked.state)
    assert any(jax.tree.leaves(started))


@pytest.mark.parametrize("name", ["gate", "account"])
def test_a_walk_in_two_pieces_is_the_walk(world, name):
    policy, keys = followers(world)[name], jax.random.split(KEY, B)
    whole = world.walk(policy, key=keys)
    first = world.walk(policy, key=keys[:1], part=slice(0, 1))
    rest = world.walk(policy, key=keys[1:], part=slice(1, B), state=first.final_state)
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, rest)
    for a, b in zip(jax.tree.leaves(joined), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", ["random", "bandit", "network"])
def test_live_text_is_the_rollout(world, name):
    policy = POLICIES[name]()
    for a, b in zip(
        jax.tree.leaves(world.text.run(policy, key=KEY)),
        jax.tree.leaves(world.rollout(policy)), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_environments_are_of_one_kind_and_say_how_large_they_are(world):
    for environment in (world.environment, world.text):
        assert isinstance(environment, Environment)
        assert (environment.num_documents, environment.num_units) == (B, N)
        one = environment.select(np.asarray([1]))
        assert one.num_documents == 1
        losses = [e.run(SchedulePolicy(jnp.eye(4)[:N]), key=KEY).nll for e in (one, environment)]
        np.testing.assert_allclose(losses[0][0], losses[1][1], atol=1e-5)
    assert (world.environment.num_decisions, world.text.num_decisions) == (N - 1, N)


def test_environments_agree_on_all_allocations(world):
    tree, text = world.environment.allocations(), world.text.allocations()
    np.testing.assert_array_equal(tree.action, text.action)
    np.testing.assert_allclose(tree.cost, text.cost)
    np.testing.assert_allclose(tree.loss, text.loss, atol=8e-4)


@pytest.mark.parametrize("horizon", ["next", "rest"])
def test_environments_agree_on_what_other_actions_would_have_gained(world, horizon):
    """And so do rollouts that differ in one action."""
    episode = world.walk(POLICIES["random"]())
    tree, text = (e.counterfactuals(episode, horizon) for e in (world.environment, world.text))
    assert tree.shape == text.shape == (B, N - 1, 4) and not tree[..., 0].any()
    np.testing.assert_allclose(tree, text, atol=8e-4)
    assert np.abs(tree[..., 1:]).min() > 0
    b, n, a = 1, 1, 3
    losses = []
    for action in (0, a):
        taken = np.append(np.asarray(episode.action)[b, :n], [action, *[0] * (N - n - 1)])
        nll = np.asarray(world.rollout(SchedulePolicy(jnp.eye(4)[taken])).nll)[b]
        losses.append(nll[n + 1] if horizon == "next" else nll[n + 1 :].sum())
    np.testing.assert_allclose(tree[b, n, a], losses[0] - losses[1], atol=8e-4)
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), episode)
    np.testing.assert_array_equal(world.environment.counterfactuals(stacked, horizon)[1], tree)


def test_every_allocation_has_its_path(world):
    taken = enumerate_allocations(N)
    nodes = path_nodes(taken)
    assert len(np.unique(nodes[:, -1])) == 4 ** (N - 1) and units_of(world.tree) == N
    assert nodes[:, -1].min() == first_nodes(N)[-2] and nodes.max() == first_nodes(N)[-1] - 1
    for w in (0, 7, 27, 63):
        policy = SchedulePolicy(jnp.eye(4)[taken[w]])
        np.testing.assert_allclose(
            np.asarray(world.tree.nll)[:, nodes[w]], world.rollout(policy).nll, atol=2e-4
        )


def test_what_is_expected_is_the_mean_over_all_allocations(world):
    """Every allocation weighs the product of its decisions' probabilities."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), (B, first_nodes(N)[-2]))
    loss, cost, steps = found = world.environment.expected(jnp.asarray(p, jnp.float32))
    taken = enumerate_allocations(N)
    nodes, actions = path_nodes(taken), taken[:, :-1]
    weight = np.prod(p[:, nodes[:, :-1], actions], axis=-1)
    nll = np.asarray(world.tree.nll)[:, nodes].mean(axis=-1)
    np.testing.assert_allclose(weight.sum(axis=1), 1)
    np.testing.assert_allclose(loss, (weight * nll).sum(axis=1), rtol=1e-5)
    costs = np.asarray(CHUNK_ACTIONS.costs)[taken].mean(axis=-1)
    np.testing.assert_allclose(cost, (weight * costs).sum(axis=1), rtol=1e-5)
    updates = np.asarray(CHUNK_ACTIONS.steps)[taken].mean(axis=-1)
    np.testing.assert_allclose(steps, (weight * updates).sum(axis=1), rtol=1e-5)
    for tree, text in zip(found, world.text.expected(jnp.asarray(p, jnp.float32)), strict=True):
        np.testing.assert_allclose(tree, text, atol=2e-4)


def test_what_is_hidden_or_blurred_is_the_features_and_nothing_else(world):
    plain, hidden = world.environment, world.environment.without("text", "history")
    gone = [i for i, name in enumerate(NAMES) if name in GROUPS["text"] + GROUPS["history"]]
    assert not np.asarray(hidden.features)[..., gone].any()
    others = np.delete(np.arange(len(NAMES)), gone)
    np.testing.assert_array_equal(hidden.features[..., others], plain.features[..., others])
    ablated = features_at(world.tree, world.extractor.without("text", "history"), world.described)
    np.testing.assert_array_equal(hidden.features, ablated)
    noise = np.asarray(plain.with_noise(KEY, 0.5).features - plain.features)
    assert noise[:, first_nodes(N)[:-2]].std() == pytest.approx(0.5, rel=0.1)
    np.testing.assert_allclose(noise[:, 1], noise[:, 2], atol=1e-5)  # nodes of one unit
    means = plain.without_tokens()
    np.testing.assert_allclose(means.run(POLICIES["random"](), key=KEY).nll,
                               world.walk(POLICIES["random"]()).nll, rtol=1e-6)  # fmt: skip


def test_only_full_short_documents_have_trees(world):
    tokens = np.zeros((1, 7, 4), np.int32)
    with pytest.raises(InputError, match="7 units have 4\\^6 allocations: expected 2 to 6"):
        read_tree(world.lm, ADAPTER, Documents(tokens, tokens == 0, np.asarray(256)))
    mask = np.ones((1, 3, 4), bool)
    mask[0, -1, 2:] = False
    with pytest.raises(InputError, match="expected no padding"):
        read_tree(world.lm, ADAPTER, Documents(tokens[:, :3], mask, np.asarray(256)))
    bare = TreeEnvironment(world.tree)
    with pytest.raises(InputError, match="decides by features"):
        bare.run(POLICIES["network"](), key=KEY)
    with pytest.raises(InputError, match="has no features"):
        bare.without("text")
    long = Documents(jnp.asarray(tokens), jnp.ones(tokens.shape, bool), jnp.asarray(256))
    text = LiveText(world.lm, ADAPTER, long, jnp.zeros((1, 7, 4, 32)))
    with pytest.raises(InputError, match="7 units have too many allocations"):
        text.allocations()
