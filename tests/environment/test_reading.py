"""Reading beyond a unit: causality across files and windows, the cache, parts, resets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import dense, faults

from ponderttt.environment import rollout as rollout_module
from ponderttt.environment.reading import score_with_slope
from ponderttt.environment.rollout import read_part, rollout
from ponderttt.errors import InputError
from ponderttt.inner.update_rules import (
    SGD,
    AdamW,
    NewtonSchulz,
    NormalizedGradient,
    OnlineRMS,
    SumOfSquares,
)
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import token_losses
from ponderttt.models.attention import rotary_angles
from ponderttt.models.decoder.decoder import block
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import RandomPolicy, SchedulePolicy, UniformPolicy
from ponderttt.types import CHUNK_ACTIONS, Documents

U, LENGTHS = 4, (3, 1, 4)
N = sum(LENGTHS)
KEY = jax.random.key(3)
ALL = ("q", "k", "v", "attention_out", "mlp_in", "mlp_out")
WINDOWS = [Window(8), Window(32), Window(8, overlap=False), Window(4, overlap=False)]


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


def files(seed=0, lengths=LENGTHS):
    """A repository of three files, the first two with padding at their ends."""
    n = sum(lengths)
    tokens = np.random.default_rng(seed).integers(0, 257, (1, n, U)).astype(np.int32)
    mask, starts = np.ones(tokens.shape, bool), np.zeros((1, n), bool)
    ends = np.cumsum(lengths)
    starts[0, ends - lengths] = True
    mask[0, ends[:-1] - 1, -1] = False
    return Documents(tokens, mask, np.asarray(256), starts)


def rules(lm, depth):
    """Every rule, at a rate that moves a random model."""
    fast = NextToken(SGD(1.0), suffix_blocks=depth).init(lm)
    ones = jax.tree.map(lambda w: jnp.full(w.shape, 1e-4), fast)
    rate = lambda x: jnp.asarray(x)  # noqa: E731
    return {
        "sgd": SGD(rate(0.3), rate(0.5), rate(0.1)),
        "normalized": NormalizedGradient(rate(0.1)),
        "rms": OnlineRMS(rate(1e-2), rate(0.9), rate(1e-8), rate(0.1)),
        "rms sum": SumOfSquares(rate(1e-3), ones, rate(1e-3), rate(0.1)),
        "rms sum, root": SumOfSquares(rate(1e-3), ones, rate(1e-3), None, True),
        "adamw": AdamW(rate(1e-2), rate(0.99), rate(1e-8), rate(0.5)),
        "newton_schulz": NewtonSchulz(rate(1e-2)),
    }


RULES = ["sgd", "normalized", "rms", "rms sum", "rms sum, root", "adamw", "newton_schulz"]
CYCLE = SchedulePolicy(jnp.eye(4)[jnp.arange(N) % 4], CHUNK_ACTIONS)


def losses(lm, adapter, documents, policy=CYCLE, **how):
    return np.asarray(rollout(lm, adapter, policy, documents, key=KEY, **how).token_nll)[0]


def changed(documents, unit, at):
    tokens = documents.tokens.copy()
    tokens[0, unit, at] = (tokens[0, unit, at] + 101) % 256
    return documents._replace(tokens=tokens)


@pytest.mark.parametrize("dispatch", ["masked", "switch"])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_no_loss_depends_on_its_own_or_a_later_token(lm, rule, depth, dispatch):
    """To the bit, across the boundaries of files too; and what is learned is seen later.

    Each rule, depth and dispatch at one window in turn; with `-m faults` at all of them.
    """
    turn = RULES.index(rule) + depth + len(dispatch) % 2
    for window in WINDOWS if faults.FULL else [WINDOWS[turn % len(WINDOWS)]]:
        check_causal(lm, rule, depth, window, dispatch)


def check_causal(lm, rule, depth, window, dispatch):
    adapter = NextToken(rules(lm, depth)[rule], suffix_blocks=depth)
    read = lambda d: losses(lm, adapter, d, window=window, dispatch=dispatch)  # noqa: E731
    documents = files()
    before = read(documents).reshape(-1)
    for unit, at in ((0, 0), (1, 2), (2, 2), (3, 1), (4, 0), (6, 3)):
        after = read(changed(documents, unit, at)).reshape(-1)
        position = unit * U + at
        np.testing.assert_array_equal(after[:position], before[:position])
        assert after[position] != before[position]
        if CHUNK_ACTIONS.steps[unit % 4]:
            assert (after[-U:] != before[-U:]).any()  # carried into the last file


@pytest.mark.parametrize("targets", [("q",), ("k", "v"), ALL])
def test_low_rank_additions_to_every_projection_are_causal(lm, targets):
    adapter = NextToken(SGD(jnp.asarray(1.0)), suffix_blocks=2, rank=2, alpha=4.0, targets=targets)
    documents, window = files(), Window(8)
    before = losses(lm, adapter, documents, window=window).reshape(-1)
    still = NextToken(SGD(jnp.asarray(0.0)), suffix_blocks=2, rank=2, alpha=4.0, targets=targets)
    assert (losses(lm, still, documents, window=window).reshape(-1) != before).any()
    for unit, at in ((0, 1), (3, 0), (5, 2)):
        after = losses(lm, adapter, changed(documents, unit, at), window=window).reshape(-1)
        np.testing.assert_array_equal(after[: unit * U + at], before[: unit * U + at])


def slow(lm, adapter, documents, window, steps):
    """Each unit by the whole of its file: every token's keys and values are of the weights that it
    was read with, all are kept, and one dense softmax meets them."""
    config, depth = lm.config, adapter.suffix_blocks
    first = config.layers - depth
    inputs = np.asarray(documents.inputs)[0]
    fast = adapter.init(lm)
    state = adapter.rule.init(fast)
    kept = [[] for _ in range(depth)]
    found = []
    for n in range(len(inputs)):
        start = n - int(documents.places[0, n])
        if start == n:
            kept = [[] for _ in range(depth)]
        whole = jnp.asarray(inputs[start : n + 1]).reshape(1, -1)
        entering = dense.prefix(lm, whole, first, window)[:, -U:]
        place = (n - start) * U

        def hidden_of(fast, entering=entering, place=place, kept=kept):
            h, new = entering, []
            angles = rotary_angles(config, place + U)[place:]
            for layer in range(depth):
                params = {k: p[...][first + layer] for k, p in lm.decoder.blocks.items()}
                deltas = jax.tree.map(lambda w: w[layer], fast)  # noqa: B023

                def attend(q, k, v, layer=layer):
                    new.append((k, v))
                    past = kept[layer]
                    keys = jnp.concatenate([*(x[0] for x in past), k], axis=1)
                    values = jnp.concatenate([*(x[1] for x in past), v], axis=1)
                    return dense.banded(q, keys, values, window)[0], None

                h, _ = block(config, params, h, angles, deltas, attend)
            return lm.decoder.final_norm(h)[0], new

        tokens, mask = jnp.asarray(documents.tokens[0, n]), jnp.asarray(documents.mask[0, n])
        out, new = hidden_of(fast)
        found.append(np.where(mask, token_losses(lm, out, tokens), 0))
        for _ in range(steps[n]):

            def loss(fast, tokens=tokens, mask=mask, hidden_of=hidden_of):
                nll = token_losses(lm, hidden_of(fast)[0], tokens)
                return jnp.sum(jnp.where(mask, nll, 0)) / jnp.sum(mask).astype(nll.dtype)

            fast, state = adapter.rule.step(fast, jax.grad(loss)(fast), state)
        for layer in range(depth):
            kept[layer].append(new[layer])
    return np.stack(found)


@pytest.mark.parametrize(
    ("depth", "tokens", "targets"),
    [(2, 8, ("mlp_out",)), (1, 32, ALL), (2, 4, ("q", "k", "v", "mlp_in"))],
)
def test_the_cache_gives_what_running_everything_gives(lm, depth, tokens, targets):
    adapter = NextToken(SGD(jnp.asarray(0.5)), suffix_blocks=depth, targets=targets)
    documents = files()
    steps = np.asarray(CHUNK_ACTIONS.steps)[np.arange(N) % 4]
    expected = slow(lm, adapter, documents, tokens, steps)
    for dispatch in ("masked", "switch"):
        got = losses(lm, adapter, documents, window=Window(tokens), dispatch=dispatch)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("rule", "depth"), [("sgd", 0), *((rule, 1) for rule in RULES)])
def test_a_document_read_in_parts_is_the_whole_to_the_bit(lm, rule, depth):
    adapter = NextToken(rules(lm, depth)[rule], suffix_blocks=depth)
    documents, window = files(), Window(8)
    whole = rollout(
        lm, adapter, CYCLE, documents, key=KEY, window=window, dispatch="switch", reset="file"
    )
    carry, parts = None, []
    for units in (range(0, 2), range(2, 5), range(5, 8)):
        episode, carry = read_part(
            lm, adapter, CYCLE, documents, key=KEY, units=units, carry=carry, window=window,
            reset="file",
        )  # fmt: skip
        carry = jax.tree.map(lambda x: jnp.asarray(np.array(x)), carry)  # as from a file
        parts.append(episode)
    for name in ("token_nll", "steps", "cost", "gradient_norm"):
        joined = np.concatenate([getattr(part, name) for part in parts], axis=1)
        np.testing.assert_array_equal(joined, getattr(whole, name), err_msg=name)


@pytest.mark.parametrize(
    ("rule", "depth", "dispatch"),
    [("sgd", 0, "masked"), ("rms", 0, "switch"), ("adamw", 1, "switch")],
)
def test_a_score_with_its_slope_leaves_what_the_gradient_on_its_own_leaves(
    lm, rule, depth, dispatch, monkeypatch
):
    """A policy that is certain of a step but may skip is scored first; one that may not, at once.

    Every loss is that of the weights that the units before it left.
    """
    made = rules(lm, depth) | {"sgd": SGD(jnp.asarray(20.0))}
    adapter, at_once = NextToken(made[rule], suffix_blocks=depth), []
    documents = files(2, (3, 2, 4))  # of a length that nothing was traced for

    def spy(*args):
        at_once.append(True)
        return score_with_slope(*args)

    monkeypatch.setattr(rollout_module, "score_with_slope", spy)
    read = lambda policy: rollout(  # noqa: E731
        lm, adapter, policy, documents, key=KEY, window=Window(8), dispatch=dispatch
    )
    apart = read(RandomPolicy(jnp.asarray([0.0, 1.0, 0.0, 0.0])))
    assert not at_once
    together = read(UniformPolicy("UPDATE_1"))
    assert at_once
    np.testing.assert_array_equal(together.steps, np.ones((1, 9)))
    for name in ("token_nll", "nll", "steps", "cost", "inner_loss", "gradient_norm"):
        one, other = getattr(together, name), getattr(apart, name)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=name)
    assert (together.token_nll[0, 0] == apart.token_nll[0, 0]).all()
    skipped = read(UniformPolicy("SKIP")).token_nll
    assert (np.abs(together.token_nll - skipped)[0, 1:] > 1e-3).any(axis=1).all()


@pytest.mark.parametrize("depth", [0, 2])
def test_reset_at_files_reads_each_file_as_if_it_were_alone(lm, depth):
    adapter = NextToken(rules(lm, depth)["rms"], suffix_blocks=depth)
    documents, window, policy = files(), Window(8), UniformPolicy("UPDATE_1")
    read = lambda d, reset: losses(lm, adapter, d, policy, window=window, reset=reset)  # noqa: E731
    each, start = read(documents, "file"), 0
    for length in LENGTHS:
        part = slice(start, start + length)
        alone = Documents(
            documents.tokens[:, part], documents.mask[:, part], documents.bos,
            documents.starts[:, part],
        )  # fmt: skip
        np.testing.assert_allclose(read(alone, "repository")[:], each[part], rtol=1e-5, atol=1e-5)
        start += length
    carried = read(documents, "repository")
    np.testing.assert_array_equal(carried[: LENGTHS[0]], each[: LENGTHS[0]])
    assert (carried[LENGTHS[0] :] != each[LENGTHS[0] :]).any()


def test_skip_over_any_window_is_the_base_there(lm):
    documents = files()
    for depth in (0, 1, 2):
        for window in WINDOWS:
            adapter = NextToken(SGD(jnp.asarray(1.0)), suffix_blocks=depth)
            got = losses(lm, adapter, documents, UniformPolicy("SKIP"), window=window)
            states = jnp.asarray(hidden_states(lm, documents, window=window)[0])
            base = np.where(
                documents.mask[0], token_losses(lm, states, jnp.asarray(documents.tokens[0])), 0
            )
            np.testing.assert_allclose(got, base, rtol=1e-5, atol=2e-5)


def test_learned_positions_have_suffix_blocks_where_windows_do_not_slide():
    model = TransformerLM.from_pretrained("tiny-gpt2")
    adapter = NextToken(SGD(jnp.asarray(1.0)), suffix_blocks=1)
    documents = files()
    with pytest.raises(InputError, match="learned positions.*overlap=False, or suffix_blocks = 0"):
        losses(model, adapter, documents, window=Window(8))
    for window in (Window(8, overlap=False), Window(32)):
        assert np.isfinite(losses(model, adapter, documents, window=window)).all()
    assert np.isfinite(losses(model, dataclasses.replace(adapter, suffix_blocks=0), documents,
                              window=Window(8))).all()  # fmt: skip


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"window": Window(6)}, "4 tokens does not divide the window of 6"),
        ({"reset": "folder"}, "unknown reset 'folder': expected repository or file"),
    ],
)
def test_bad_input_is_refused(lm, how, said):
    with pytest.raises(InputError, match=said):
        losses(lm, NextToken(SGD(jnp.asarray(1.0))), files(), **how)
    with pytest.raises(InputError, match="a part begins at 0, or with a carry"):
        read_part(lm, NextToken(SGD(jnp.asarray(1.0))), CYCLE, files(), key=KEY, units=range(2, 4))
