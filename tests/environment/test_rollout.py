"""The one loop: causality first, then that its two dispatches and its parts agree."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ponderttt.environment import rollout as rollout_module
from ponderttt.environment.rollout import rollout
from ponderttt.errors import InputError
from ponderttt.inner.descent import descend
from ponderttt.inner.update_rules import SGD, AdamW, OnlineRMS
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import Unit, token_losses
from ponderttt.models.adapters.reconstruction import Reconstruction
from ponderttt.models.adapters.ttt_layer import TTTConfig, TTTLayer
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import EMAGate, RandomPolicy, UniformPolicy
from ponderttt.types import CHUNK_ACTIONS, Decision, Documents

N, U = 6, 4


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Cycle:
    """Every action in turn, so that one compiled program meets them all."""

    actions = CHUNK_ACTIONS
    max_steps = CHUNK_ACTIONS.max_steps
    least_steps = 0
    needs = ()
    follows_stream = False

    def init(self, key):
        return ()

    def reset(self, state):
        return state

    def act(self, state, observation, key):
        action = (observation.unit + 1) % len(self.actions.names)
        return Decision(action, jnp.zeros(()), jnp.zeros(())), state


RATE = jnp.asarray(0.3)
KEY = jax.random.key(7)


@pytest.fixture(scope="module", params=["tiny", "tiny-gpt2"])
def lm(request):
    return TransformerLM.from_pretrained(request.param)


@pytest.fixture(scope="module")
def tiny():
    return TransformerLM.from_pretrained("tiny")


def layer(fast_weight="linear", norm=True, width=32):
    config = TTTConfig(width, chunk_size=U, head_dim=16, fast_weight=fast_weight, norm=norm,
                       fast_weight_hidden_dim=32, base_rate=0.02)  # fmt: skip
    made = TTTLayer(config, rngs=nnx.Rngs(3))
    made.wo[...] = jax.random.normal(jax.random.key(5), made.wo[...].shape) / 8
    return made


ADAPTERS = {
    "additive": lambda: NextToken(SGD(RATE)),
    "additive, rank 4": lambda: NextToken(SGD(RATE), rank=4),
    "lora": lambda: NextToken(SGD(RATE), suffix_blocks=1, rank=4, targets=("q", "v", "mlp_out")),
    "in-place": lambda: NextToken(SGD(RATE, jnp.asarray(0.1)), suffix_blocks=2),
    "rms": lambda: NextToken(OnlineRMS(jnp.asarray(0.01), pull=0.1)),
    "lora, adamw": lambda: NextToken(AdamW(RATE), suffix_blocks=1, rank=4, alpha=2.0),
    "linear": lambda: Reconstruction.of(layer()),
    "linear, plain": lambda: Reconstruction.of(layer(norm=False)),
    "mlp": lambda: Reconstruction.of(layer("mlp")),
}


def text(seed=0, batch=1, n=N):
    tokens = np.random.default_rng(seed).integers(0, 257, (batch, n, U)).astype(np.int32)
    return Documents(tokens, np.ones(tokens.shape, bool), np.asarray(256))


def three():
    """A document, another, and the first again."""
    return text(batch=2).select(np.asarray([0, 1, 0]))


def window_of(adapter):
    return Window(2 * U if adapter.suffix_blocks else U, overlap=False)


def losses(lm, adapter, policy, documents, **how):
    return np.asarray(rollout(lm, adapter, policy, documents, key=KEY, **how).token_nll)


def changed(documents, position):
    tokens = documents.tokens.copy()
    flat = tokens.reshape(len(tokens), -1)
    flat[0, position] = (flat[0, position] + 101) % 256
    return documents._replace(tokens=tokens)


def assert_causal(read, documents, positions):
    """The document's earlier losses keep every bit when a token changes; its own loss changes."""
    before = read(documents)[0].reshape(-1)
    for position in positions:
        after = read(changed(documents, position))[0].reshape(-1)
        np.testing.assert_array_equal(after[:position], before[:position])
        assert after[position] != before[position]


@pytest.mark.parametrize("dispatch", ["masked", "switch"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_no_loss_depends_on_its_own_or_a_later_token(lm, adapter, dispatch):
    made = ADAPTERS[adapter]()
    assert_causal(
        lambda d: losses(lm, made, Cycle(), d, dispatch=dispatch, window=window_of(made)),
        three(), (0, 2, U - 1, U, 2 * U + 1, 3 * U - 1, 3 * U, N * U - 1),
    )  # fmt: skip


@pytest.mark.parametrize("adapter", ["lora", "in-place"])
def test_blocks_with_attention_and_mlp_in_parallel_do_not_look_ahead(adapter):
    neox, made = TransformerLM.from_pretrained("tiny-neox"), ADAPTERS[adapter]()
    read = lambda d: losses(neox, made, Cycle(), d, window=window_of(made))  # noqa: E731
    assert_causal(read, three(), (0, U - 1, U, 2 * U + 1, 3 * U, N * U - 1))


@pytest.mark.parametrize("action", [*CHUNK_ACTIONS.names, "RANDOM"])
def test_no_action_looks_ahead(tiny, action):
    policy = RandomPolicy(jnp.full(4, 0.25)) if action == "RANDOM" else UniformPolicy(action)
    read = lambda d: losses(tiny, NextToken(SGD(RATE)), policy, d)  # noqa: E731
    assert_causal(read, text(), (0, U - 1, U, 2 * U + 1, N * U - 1))


def test_adapting_before_predicting_is_caught(tiny, monkeypatch):
    """The test fails on a loop broken on purpose: the unit is learned from, then scored."""
    monkeypatch.setattr(rollout_module, "_check", lambda *a: None)
    read = lambda d: losses(  # noqa: E731
        tiny, NextToken(SGD(RATE)), UniformPolicy("UPDATE_1"), d, order="adapt_first"
    )
    with pytest.raises(AssertionError):
        assert_causal(read, text(), (2 * U + 5,))


@pytest.mark.parametrize("dispatch", ["masked", "switch"])
def test_adapt_first_on_single_tokens_is_causal(tiny, dispatch):
    documents = text()
    single = Documents(
        documents.tokens.reshape(1, N * U, 1), documents.mask.reshape(1, N * U, 1), documents.bos
    )
    adapter = Reconstruction.of(layer())
    assert_causal(
        lambda d: losses(
            tiny, adapter, UniformPolicy("UPDATE_2"), d,
            dispatch=dispatch, order="adapt_first",
        ),
        single, (0, 5, U, N * U - 1),
    )  # fmt: skip


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_masked_equals_switch(lm, adapter):
    made = ADAPTERS[adapter]()
    one, other = (
        rollout(lm, made, Cycle(), three(), key=KEY, dispatch=dispatch, window=window_of(made))
        for dispatch in ("masked", "switch")
    )
    for name, a, b in zip(one._fields, one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("adapter", ["additive", "lora"])
def test_zero_at_the_start_skip_is_the_base(lm, adapter):
    documents = text()
    base = lm.logits(documents.inputs.reshape(N, U))
    expected = -jax.nn.log_softmax(base)[
        np.arange(N)[:, None], np.arange(U)[None], documents.tokens[0]
    ]
    got = losses(lm, ADAPTERS[adapter](), UniformPolicy("SKIP"), documents)[0]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_fast_weights_are_carried_and_reset(lm, adapter):
    """The first unit never gains, later ones change; a document does not see the one before it."""
    made = ADAPTERS[adapter]()
    still = dataclasses.replace(made, **at_rate_0(made))
    read = lambda a: losses(  # noqa: E731
        lm, a, Cycle(), three(), dispatch="switch", window=window_of(a)
    )
    skip, update = read(still), read(made)
    np.testing.assert_array_equal(skip[:, 0], update[:, 0])
    assert (skip[:, 1:] != update[:, 1:]).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(update[0], update[2])


def test_the_rule_s_state_is_carried_between_units_and_reset_with_the_weights(tiny):
    """A document by hand, one descent a unit; without the state, the losses are others."""
    made, documents = ADAPTERS["rms"](), three()
    read = losses(tiny, made, Cycle(), documents)
    hidden = hidden_states(tiny, documents, window=Window(U, overlap=False))

    def by_hand(document, carry):
        fast, state, found = made.init(tiny), None, []
        for n in range(N):
            tokens, mask = (jnp.asarray(x[document, n]) for x in documents[:2])
            unit = Unit(jnp.asarray(hidden[document, n]), tokens, mask)
            found.append(
                token_losses(tiny, made.read(tiny, fast, unit, learns=False).hidden, tokens)
            )
            fast, state, _ = descend(
                fast, unit, jnp.asarray(CHUNK_ACTIONS.steps[(n + 1) % 4]), rule=made.rule,
                gradient=partial(made.gradient, tiny), max_steps=4,
                state=state if carry else None,
            )  # fmt: skip
        return np.stack(found)

    for document in range(2):
        np.testing.assert_allclose(by_hand(document, True), read[document], atol=2e-5)
        assert np.abs(by_hand(document, False) - read[document]).max() > 1e-3


def at_rate_0(adapter):
    """The field of an adapter that holds its rate, at 0."""
    if isinstance(adapter, NextToken):
        return {"rule": dataclasses.replace(adapter.rule, rate=jnp.zeros(()))}
    return {"scale": jnp.zeros(())}


GATES = {
    "gate": {"target": 0.5},
    "delta gate": {"target": 0.5, "signal": "delta"},
    "residual gate": {"target": 0.6, "growth": 1.02},
}


def following_gate(lm, options, documents, **how):
    """A gate calibrated on other text, and what it does to `documents`."""
    first = rollout(lm, NextToken(SGD(RATE)), UniformPolicy("SKIP"), text(5, batch=4), key=KEY)
    gate = EMAGate.calibrate(first.inner_loss, **options)
    return rollout(lm, NextToken(SGD(RATE)), gate, documents, **{"key": KEY} | how)


@pytest.mark.parametrize("kind", GATES)
def test_a_gate_follows_the_stream_under_either_dispatch(tiny, kind):
    """Against the rule written out, unit after unit; a document starts with what was left to it."""
    documents = text(batch=4)
    mask = documents.mask.copy()
    mask[1, 3:] = False  # a short document's padding moves nothing
    documents = documents._replace(mask=mask)
    masked, switch = (
        following_gate(tiny, GATES[kind], documents, dispatch=dispatch)
        for dispatch in ("masked", "switch")
    )
    for a, b in zip(jax.tree.leaves(masked), jax.tree.leaves(switch), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    target, a = GATES[kind]["target"], 0.1
    skip = rollout(tiny, NextToken(SGD(RATE)), UniformPolicy("SKIP"), text(5, batch=4), key=KEY)
    start = EMAGate.calibrate(skip.inner_loss, **GATES[kind])
    tau, share, mean = float(start.threshold), target, float(start.loss)
    moved = 0
    for b, n in np.ndindex(4, N):
        loss = float(masked.inner_loss[b, n])
        if mask[b, n].any():
            signal = loss - mean if kind == "delta gate" else loss
            levels = tau * 1.02 ** np.arange(3) if kind == "residual gate" else np.array([tau])
            assert int(masked.action[b, n]) == (signal > levels).sum()
            share = (1 - a) * share + a * (signal > tau)
            tau += a * (share - target) * abs(tau)
            mean = (1 - a) * mean + a * loss
            moved += signal > tau
        found = (x[b, n] for x in masked.state)
        np.testing.assert_allclose(tuple(found), [tau, share, mean], rtol=1e-5)
    assert 0 < moved < 21


@pytest.mark.parametrize("dispatch", ["masked", "switch"])
def test_a_stream_in_two_pieces_is_the_stream(tiny, dispatch):
    documents, keys = text(batch=4), jax.random.split(KEY, 4)
    whole = following_gate(tiny, GATES["gate"], documents, key=keys, dispatch=dispatch)
    first = following_gate(
        tiny, GATES["gate"], documents.select(slice(0, 1)), key=keys[:1], dispatch=dispatch
    )
    rest = following_gate(
        tiny, GATES["gate"], documents.select(slice(1, 4)), key=keys[1:], dispatch=dispatch,
        state=first.final_state,
    )  # fmt: skip
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, rest)
    for a, b in zip(jax.tree.leaves(joined), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    afresh = following_gate(
        tiny, GATES["gate"], documents.select(slice(1, 4)), key=keys[1:], dispatch=dispatch
    )
    assert not np.allclose(afresh.state.threshold, rest.state.threshold)


def test_what_a_gate_carries_on_does_not_look_ahead(tiny):
    """A changed token changes nothing before it: neither its document's past nor earlier ones."""
    documents = text(batch=3)
    before = following_gate(tiny, GATES["gate"], documents, dispatch="switch")
    tokens = documents.tokens.copy()
    tokens[1, 2, 1] = (tokens[1, 2, 1] + 101) % 256
    after = following_gate(
        tiny, GATES["gate"], documents._replace(tokens=tokens), dispatch="switch"
    )
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[0], np.asarray(b)[0])
        np.testing.assert_array_equal(np.asarray(a)[1, :2], np.asarray(b)[1, :2])
    assert (after.state.loss[1:, -1] != before.state.loss[1:, -1]).all()


def test_updating_on_repeated_text_helps(tiny):
    documents = text()
    again = documents._replace(tokens=np.repeat(documents.tokens[:, :1], N, axis=1))
    skip = losses(tiny, NextToken(SGD(jnp.asarray(1.0))), UniformPolicy("SKIP"), again)
    gain = skip - losses(tiny, NextToken(SGD(jnp.asarray(1.0))), UniformPolicy("UPDATE_4"), again)
    # The first unit starts behind the document's start, so it is not quite what is repeated.
    assert (np.diff(gain[0].mean(axis=-1))[1:] > 0).all()


def test_padding_costs_nothing_and_changes_nothing(tiny):
    documents = text()
    mask = documents.mask.copy()
    mask[0, 2, 2:] = mask[0, 3:] = False
    padded = documents._replace(mask=mask)
    other = padded._replace(tokens=np.where(mask, padded.tokens, 9))
    made = NextToken(SGD(RATE))
    one, two = (rollout(tiny, made, UniformPolicy("UPDATE_4"), d, key=KEY) for d in (padded, other))
    np.testing.assert_array_equal(one.token_nll, two.token_nll)
    assert (np.asarray(one.token_nll)[~mask] == 0).all()
    np.testing.assert_array_equal(one.steps[0], [4, 4, 4, 0, 0, 0])
    np.testing.assert_array_equal(one.cost[0], [12, 12, 12, 0, 0, 0])


def test_cached_hidden_states_give_the_same_bits(tiny):
    from ponderttt.models.decoder.hidden import hidden_states

    documents, made = text(batch=2), NextToken(SGD(RATE))
    hidden = hidden_states(tiny, documents, window=Window(U, overlap=False))
    np.testing.assert_array_equal(
        losses(tiny, made, UniformPolicy("UPDATE_1"), documents),
        losses(tiny, made, UniformPolicy("UPDATE_1"), documents, hidden=hidden),
    )


def test_one_trace_serves_all_documents_rates_and_draws(tiny):
    """No recompilation after the first document."""
    program = rollout_module._read_documents
    program.clear_cache()
    for seed, rate in itertools.product(range(3), (0.1, 0.2)):
        made = NextToken(SGD(jnp.asarray(rate)))
        mix = RandomPolicy(jax.nn.softmax(jnp.arange(4.0) * seed))
        rollout(tiny, made, mix, text(seed), key=jax.random.key(seed), dispatch="switch")
    assert program._cache_size() == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"window": Window(6, overlap=False)},
            "a unit of 4 tokens does not divide the window of 6",
        ),
        ({"dispatch": "vmap"}, "unknown dispatch 'vmap'"),
        ({"order": "adapt_first"}, "units of 4 tokens would predict a token from itself"),
        ({"order": "backwards"}, "unknown order 'backwards'"),
        ({"hidden": jnp.zeros((1, N, U + 1, 32))}, "do not belong to documents"),
        ({"key": jax.random.split(KEY, 3)}, "for 1 documents: expected one for each"),
    ],
)
def test_bad_input_is_refused(tiny, how, message):
    with pytest.raises(InputError, match=message):
        rollout(tiny, NextToken(SGD(RATE)), UniformPolicy("SKIP"), text(), **{"key": KEY} | how)


def test_unknown_names_are_refused(tiny):
    with pytest.raises(InputError, match="unknown action 'UPDATE_3'"):
        UniformPolicy("UPDATE_3")
    bad = dataclasses.replace(NextToken(SGD(RATE)), suffix_blocks=1, targets=("mlp",))
    with pytest.raises(InputError, match="unknown projection 'mlp'"):
        rollout(tiny, bad, UniformPolicy("SKIP"), text(), key=KEY)
    with pytest.raises(InputError, match="next_token objective"):
        single = Documents(np.zeros((1, 4, 1), np.int32), np.ones((1, 4, 1), bool), np.asarray(256))
        rollout(
            tiny, NextToken(SGD(RATE)), UniformPolicy("SKIP"), single, key=KEY, order="adapt_first"
        )
