"""The features: causal, finite, 32 different things on real text; and policies that use them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponderttt.data import get_tokenizer, load_documents
from ponderttt.environment.rollout import rollout
from ponderttt.errors import InputError
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.hidden import cached_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import (
    EMAGate,
    EntropyBasedPolicy,
    FeatureExtractor,
    GradientNormBasedPolicy,
    LossBasedPolicy,
    PerplexityBasedPolicy,
    RandomPolicy,
    SchedulePolicy,
    ThresholdBandit,
    UniformPolicy,
    best_mix,
)
from ponderttt.policies.features import DESCRIBED, GROUPS, NAMES, TokenTable, describe
from ponderttt.policies.thresholds import percentile_thresholds
from ponderttt.types import CHUNK_ACTIONS, Episode

N, U = 6, 32
KEY = jax.random.key(0)
ADAPTER = NextToken(SGD(jnp.asarray(0.3)))
MIX = RandomPolicy(jnp.full(4, 0.25))
RAW = FeatureExtractor.raw(budget=3.0)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """The tiny model on real code: `read(policy, documents)`, with the features' table fitted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PONDERTTT_CACHE", str(tmp_path_factory.mktemp("cache")))
        lm = TransformerLM.from_pretrained("tiny")
        tokenizer = get_tokenizer(lm.tokenizer_name)
        corpus = load_documents(
            "stdlib", tokenizer, split="train", unit=U, units=N, min_units=N, max_documents=12
        )
        documents = corpus.documents

        def states(documents):
            return cached_states(lm, documents, window=Window(U, overlap=False))

        hidden = np.stack([each.hidden for each in states(documents)])
        table = TokenTable.fit(tokenizer, documents.tokens, hidden)

        def descriptions(documents):
            return np.stack(
                [
                    describe(table, t, m, s.hidden, s.attention)
                    for t, m, s in zip(
                        np.asarray(documents.tokens), np.asarray(documents.mask),
                        states(documents), strict=True,
                    )
                ]
            )  # fmt: skip

        def read(policy, documents, extractor=RAW, **how):
            return rollout(
                lm, ADAPTER, policy, documents, key=KEY,
                extractor=extractor, described=descriptions(documents), **how,
            )  # fmt: skip

        read.documents, read.lm = documents, lm
        yield read


@pytest.fixture(scope="module")
def episode(read):
    return read(MIX, read.documents)


def flat(episode):
    return np.asarray(episode.features).reshape(-1, len(NAMES)).astype(np.float64)


def test_there_are_32_in_six_groups():
    assert [len(group) for group in GROUPS.values()] == [4, 6, 4, 8, 4, 6]
    assert len(set(NAMES)) == 32 and len(DESCRIBED) == 20


def test_they_are_32_different_things_on_real_text(episode):
    """No constant, no copy, no column that the others add up to (traps of the earlier attempts)."""
    fitted = RAW.fit(flat(episode))
    columns = (flat(episode) - np.asarray(fitted.mean)) / np.asarray(fitted.scale)
    assert np.isfinite(columns).all()
    assert (flat(episode).std(axis=0) > 1e-6).all()
    values = np.linalg.svd(columns, compute_uv=False)
    assert values[-1] > 1e-3 * values[0]
    broken = np.column_stack([columns[:, :-1], columns[:, 0] + columns[:, 1]])
    values = np.linalg.svd(broken, compute_uv=False)
    assert values[-1] < 1e-3 * values[0]


def test_standardised_features_lie_within_five(read, episode):
    extractor = RAW.fit(flat(episode))
    got = flat(read(MIX, read.documents, extractor))
    assert np.abs(got).max() <= 5
    np.testing.assert_allclose(got.mean(axis=0), 0, atol=0.2)
    ablated = flat(read(MIX, read.documents, extractor.without("text", "history")))
    gone = [i for i, name in enumerate(NAMES) if name in GROUPS["text"] + GROUPS["history"]]
    assert not ablated[:, gone].any()
    np.testing.assert_array_equal(np.delete(ablated, gone, axis=1), np.delete(got, gone, axis=1))


def test_masked_equals_switch(read, episode):
    other = read(MIX, read.documents, dispatch="switch")
    for name, a, b in zip(episode._fields, episode, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=name)


def some_bandit(episode):
    rng = np.random.default_rng(0)
    extractor = RAW.fit(flat(episode))
    x = (flat(episode) - np.asarray(extractor.mean)) / np.asarray(extractor.scale)
    bandit = ThresholdBandit.fit(x, rng.normal(size=(len(x), 4)))
    return bandit.at_budget(x, 3.0), extractor


POLICIES = {
    "uniform": lambda e: UniformPolicy("UPDATE_2"),
    "random": lambda e: MIX,
    "schedule": lambda e: SchedulePolicy.first("UPDATE_1", 2.0, N),
    "entropy": lambda e: EntropyBasedPolicy.calibrate(e),
    "loss": lambda e: LossBasedPolicy.calibrate(e),
    "gradient_norm": lambda e: GradientNormBasedPolicy.calibrate(e),
    "perplexity": lambda e: PerplexityBasedPolicy.calibrate(e),
    "gate": lambda e: EMAGate.calibrate(e.inner_loss, target=0.5),
    "delta gate": lambda e: EMAGate.calibrate(e.inner_loss, signal="delta"),
    "residual": lambda e: EMAGate.calibrate(e.inner_loss, growth=1.02),
}


CASES = [*((name, "masked") for name in POLICIES), ("bandit", "masked"), ("bandit", "switch")]


@pytest.mark.parametrize(("name", "dispatch"), CASES)
def test_no_policy_and_no_feature_looks_ahead(read, episode, name, dispatch):
    """A changed token: same features, actions and losses before its unit, same losses before it."""
    policy, extractor = (
        some_bandit(episode) if name == "bandit" else (POLICIES[name](episode), None)
    )
    how = {"extractor": extractor or FeatureExtractor.raw(budget=3.0), "dispatch": dispatch}
    documents = read.documents.select(slice(0, 1))
    before = read(policy, documents, **how)
    changed_somewhere = False
    for position in (3, U, 2 * U + 5, 4 * U - 1):
        tokens = np.array(documents.tokens)
        tokens.reshape(-1)[position] = (tokens.reshape(-1)[position] + 50) % 256
        after = read(policy, documents._replace(tokens=tokens), **how)
        unit = position // U
        for field in ("action", "steps", "features", "entropy", "gradient_norm", "inner_loss"):
            a, b = getattr(after, field), getattr(before, field)
            np.testing.assert_array_equal(a[0, :unit], b[0, :unit], err_msg=field)
        losses = [np.asarray(e.token_nll)[0].reshape(-1) for e in (after, before)]
        np.testing.assert_array_equal(losses[0][:position], losses[1][:position])
        changed_somewhere |= not np.array_equal(after.features[0, unit], before.features[0, unit])
    assert changed_somewhere


@pytest.mark.parametrize("kind", [EntropyBasedPolicy, LossBasedPolicy, PerplexityBasedPolicy])
def test_thresholds_hit_their_mix_on_a_second_batch(kind):
    """Within 2 points, on signals drawn anew from the same distribution."""
    rng = np.random.default_rng(0)

    def batch():
        losses = rng.gamma(3.0, size=(2000, 8, 8)).astype(np.float32)
        return jnp.asarray(losses)

    mix = (0.3, 0.4, 0.2, 0.1)
    first, second = batch(), batch()
    mask = jnp.ones(first.shape, bool)

    def episode_of(x):
        zeros = jnp.zeros(x.shape[:2])
        return Episode(x, x.mean(-1), zeros, zeros, zeros, zeros, zeros, zeros, x.mean(-1), zeros,
                       jnp.zeros((*x.shape[:2], 0)), mask)  # fmt: skip

    policy = kind.calibrate(episode_of(first), mix)
    signal = np.asarray(kind.of_episode(episode_of(second))).reshape(-1)
    taken = (signal[:, None] > np.asarray(policy.thresholds)).sum(axis=1)
    shares = np.bincount(taken, minlength=4) / len(taken)
    np.testing.assert_allclose(shares, mix, atol=0.02)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda x: sum(x) > 0.1))
@settings(max_examples=30, deadline=None)
def test_percentiles_cut_into_the_mix(shares):
    mix = np.asarray(shares) / sum(shares)
    signal = np.random.default_rng(1).permutation(10_000) / 10_000
    thresholds = percentile_thresholds(signal, mix)
    taken = (signal[:, None] > thresholds).sum(axis=1)
    np.testing.assert_allclose(np.bincount(taken, minlength=4) / 10_000, mix, atol=0.001)


def test_the_gate_follows_its_rule(read):
    """Against the rule written out, over two documents in a row."""
    gate = EMAGate.calibrate(np.asarray([2.0, 3.0, 4.0, 5.0]), target=0.5, rate=0.1)
    tau, share = float(gate.threshold), 0.5
    episode = read(gate, read.documents.select(slice(0, 2)))
    for i in range(2):
        for loss, action in zip(episode.inner_loss[i], episode.action[i], strict=True):
            taken = float(loss) > tau
            assert int(action) == taken
            share = 0.9 * share + 0.1 * taken
            tau += 0.1 * (share - 0.5) * abs(tau)
        state = jax.tree.map(lambda x, i=i: x[i, -1], episode.state)
        np.testing.assert_allclose([state.threshold, state.share], [tau, share], rtol=1e-5)


def test_the_bandit_spends_its_budget_and_less_as_the_price_rises(episode):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 32))
    truth = rng.normal(size=(32, 4)) / 10 + np.asarray([0, 0.1, 0.15, 0.2])
    bandit = ThresholdBandit.fit(x, x @ truth)
    costs = np.asarray(CHUNK_ACTIONS.costs)

    def cost(bandit):
        worth = x @ np.asarray(bandit.weights[:-1]) + np.asarray(bandit.weights[-1])
        return costs[np.argmax(worth - float(bandit.price) * costs, axis=1)].mean()

    for budget in (2.0, 3.125, 5.0):
        np.testing.assert_allclose(cost(bandit.at_budget(x, budget)), budget, rtol=0.02)
    with pytest.raises(InputError, match="least feasible one is 1, the cost of SKIP"):
        bandit.at_budget(x, 0.5)


def test_schedules_spend_their_budget():
    for action in ("UPDATE_1", "UPDATE_4"):
        table = np.asarray(SchedulePolicy.first(action, 2.5, 16).probabilities)
        np.testing.assert_allclose(table.sum(axis=1), 1)
        np.testing.assert_allclose((table @ CHUNK_ACTIONS.costs).mean(), 2.5, rtol=1e-5)
        assert (np.diff(table[:, CHUNK_ACTIONS.position(action)]) <= 0).all()
    with pytest.raises(InputError, match="cannot be met by SKIP and UPDATE_1"):
        SchedulePolicy.first("UPDATE_1", 4.0, 16)
    assert best_mix(np.asarray([0.0, 1.0, 1.5, 2.0]), 3.0)[1] == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: percentile_thresholds([], (0.5, 0.5)), "no signal"),
        (lambda: percentile_thresholds([1.0, np.nan], (0.5, 0.5)), "not finite"),
        (lambda: percentile_thresholds([1.0], (0.5, 0.6)), "not a distribution"),
        (lambda: EMAGate.calibrate([]), "no signal"),
        (lambda: EMAGate.calibrate([1.0], target=2.0), "expected 0 to 1"),
        (lambda: EMAGate.calibrate([1.0], signal="loss"), "unknown signal"),
        (lambda: ThresholdBandit.fit(np.zeros((0, 32)), np.zeros((0, 4))), "no unit"),
        (lambda: ThresholdBandit.fit(np.full((3, 32), np.nan), np.zeros((3, 4))), "not finite"),
        (lambda: RAW.without("colour"), "unknown group 'colour'"),
        (lambda: RAW.fit(np.full((2, 32), np.inf)), "'entropy' is not"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        wrong()


def test_a_policy_of_features_wants_an_extractor(read, episode):
    bandit, _ = some_bandit(episode)
    with pytest.raises(InputError, match="give rollout extractor="):
        rollout(read.lm, ADAPTER, bandit, read.documents, key=KEY)
    with pytest.raises(InputError, match="both extractor= and described="):
        rollout(read.lm, ADAPTER, MIX, read.documents, key=KEY, extractor=RAW)  # fmt: skip
