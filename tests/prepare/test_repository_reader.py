"""Repositories read one at a time: the rollout's own numbers, kept, and computed only once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import dense
from support.made_repository import made_repository

from ponderttt.cache import Arrays
from ponderttt.environment.rollout import rollout
from ponderttt.inner.update_rules import SGD, Gather
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.adapters.protocol import token_losses
from ponderttt.models.attention import rotary_angles
from ponderttt.models.decoder.decoder import block
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.policies import RandomPolicy, UniformPolicy
from ponderttt.prepare import repository_reader
from ponderttt.prepare.repositories import joined, shuffled
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.types import masked_mean

WINDOW = Window(8)
MADE = made_repository(spare=1)
DOCUMENT = MADE.document
MIX, UPDATE = RandomPolicy(jnp.full(4, 0.25)), UniformPolicy("UPDATE_1")
NAMES = {"token_nll", "nll", "mask", "steps", "cost", "gradient_norm"}


def adapter(rate: float = 0.3, depth: int = 0) -> NextToken:
    return NextToken(SGD(jnp.asarray(rate)), suffix_blocks=depth)


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def reader(lm):
    return RepositoryReader(lm, WINDOW)


@pytest.fixture
def computed(monkeypatch):
    """What is called to compute something, in order."""
    calls = []

    def spied(name, call):
        def spy(*args, **how):
            calls.append(name)
            return call(*args, **how)

        return spy

    for name in ("rollout", "read_part", "cached_states"):
        made = spied(name, getattr(repository_reader, name))
        monkeypatch.setattr(repository_reader, name, made)
    return calls


def assert_equal(one: Arrays, other: Arrays) -> None:
    assert one.keys() == other.keys() == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(one[name], other[name], strict=True, err_msg=name)


# --- states


@pytest.mark.parametrize("depth", [0, 1])
def test_states_are_what_the_last_blocks_begin_with_and_stay_on_disk(reader, depth):
    states = reader.states(DOCUMENT, depth)
    expected = hidden_states(reader.lm, DOCUMENT, window=WINDOW, suffix_blocks=depth)
    np.testing.assert_array_equal(states, expected)
    assert not states.flags.writeable and not states.flags.owndata


# --- episodes


@pytest.mark.parametrize("reset", ["repository", "file"])
def test_an_episode_is_that_of_the_rollout(reader, reset):
    found = dataclasses.replace(reader, seed=4).read(DOCUMENT, adapter(), MIX, reset=reset)
    episode = rollout(
        reader.lm, adapter(), MIX, DOCUMENT, key=jax.random.key(4), window=WINDOW,
        dispatch="switch", reset=reset,
    )  # fmt: skip
    assert found.keys() == NAMES
    for name in NAMES:
        expected = np.asarray(getattr(episode, name))[0]
        np.testing.assert_array_equal(found[name], expected, strict=True, err_msg=name)
    assert found["token_nll"].shape == DOCUMENT.tokens.shape[1:]
    assert found["steps"][-1] == 0 < found["steps"].max()


def test_what_was_read_once_is_taken_from_the_cache(lm, reader, computed):
    first = reader.read(DOCUMENT, adapter(), MIX)
    assert computed == ["cached_states", "rollout"]
    again = RepositoryReader(lm, WINDOW).read(
        made_repository(spare=1).document, adapter(), RandomPolicy(jnp.full(4, 0.25))
    )
    assert computed == ["cached_states", "rollout"]
    assert_equal(first, again)


def test_another_reading_is_another_episode(lm, reader, computed):
    """Whatever an episode depends on is in its key: none takes the place of another."""
    read = [
        (reader, DOCUMENT, adapter(), MIX, "repository"),
        (reader, DOCUMENT, adapter(), MIX, "file"),
        (dataclasses.replace(reader, seed=1), DOCUMENT, adapter(), MIX, "repository"),
        (RepositoryReader(lm, Window(16)), DOCUMENT, adapter(), MIX, "repository"),
        (reader, DOCUMENT, adapter(0.1), MIX, "repository"),
        (reader, DOCUMENT, adapter(), UPDATE, "repository"),
        (reader, shuffled(MADE, 0)[0].document, adapter(), MIX, "repository"),
    ]
    kept = [who.read(document, *what, reset=reset) for who, document, *what, reset in read]
    assert computed.count("rollout") == len(read)
    assert len({each["token_nll"].tobytes() for each in kept}) == len(read)


def test_resetting_at_files_changes_what_comes_after_the_first(reader):
    carried, fresh = (
        reader.read(DOCUMENT, adapter(), UPDATE, reset=reset)["token_nll"]
        for reset in ("repository", "file")
    )
    units = MADE.files[0].units
    np.testing.assert_array_equal(carried[:units], fresh[:units])
    for span in MADE.files[1:]:
        at = slice(span.first_unit, span.first_unit + span.units)
        assert (carried[at] != fresh[at]).any()
    skipped = reader.read(DOCUMENT, adapter(), UniformPolicy("SKIP"))["token_nll"]
    for span in MADE.files:  # met with the weights that a document begins with
        np.testing.assert_allclose(fresh[span.first_unit], skipped[span.first_unit], rtol=1e-5)


def test_states_that_are_given_are_not_computed(reader, cache, monkeypatch):
    first = made_repository((7, 12), name="b", seed=1)
    both = joined(first, MADE).document
    parts = [reader.states(part, 0) for part in (first.document, DOCUMENT)]
    expected = reader.read(both, adapter(), MIX)
    monkeypatch.setenv("PONDERTTT_CACHE", str(cache / "other"))
    monkeypatch.setattr(RepositoryReader, "states", lambda *args: pytest.fail("states are asked"))
    found = reader.read(both, adapter(), MIX, states=np.concatenate(parts, axis=1))
    np.testing.assert_array_equal(found["steps"], expected["steps"])
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_rate_that_diverges_keeps_its_episode(reader, computed):
    """Losses that are not finite are what it did: they are kept as they are, unit for unit."""
    found = reader.read(DOCUMENT, adapter(np.inf), UPDATE)
    assert np.isfinite(found["nll"][0]) and not np.isfinite(found["nll"][1:-1]).any()
    np.testing.assert_array_equal(found["steps"], [1] * 10 + [0])
    assert_equal(reader.read(DOCUMENT, adapter(np.inf), UPDATE), found)
    assert computed.count("rollout") == 1


# --- statistics


THREE = made_repository((10, 12, 9), spare=1)


def squares_by_hand(lm, depth: int):
    """Each unit's gradient at zero fast weights, from its file read whole; their squares added."""
    document, config, first = THREE.document, lm.config, lm.config.layers - depth
    tokens, mask, inputs = (x[0] for x in (*document[:2], document.inputs))
    zero = jax.tree.map(jnp.zeros_like, NextToken(Gather(), suffix_blocks=depth).init(lm))

    def states(fast, entering):
        if not depth:
            h = lm.decoder.final_norm(entering)[0]
            return h + h / jnp.linalg.norm(h, axis=-1, keepdims=True) @ fast["w"]
        angles = rotary_angles(config, entering.shape[1])
        for layer in range(depth):
            params = {k: p[...][first + layer] for k, p in lm.decoder.blocks.items()}
            attend = lambda q, k, v: (dense.banded(q, k, v, WINDOW.tokens)[0], None)  # noqa: E731
            delta = jax.tree.map(lambda w: w[layer], fast)  # noqa: B023
            entering, _ = block(config, params, entering, angles, delta, attend)
        return lm.decoder.final_norm(entering)[0]

    total = jax.tree.map(np.zeros_like, zero)
    for span in THREE.files:
        at = slice(span.first_unit, span.first_unit + span.units)
        entering = dense.prefix(lm, jnp.asarray(inputs[at]).reshape(1, -1), first, WINDOW.tokens)

        def losses(fast, at=at, entering=entering):
            hidden = states(fast, entering).reshape(*tokens[at].shape, -1)
            nll = token_losses(lm, hidden, jnp.asarray(tokens[at]))
            return masked_mean(nll, jnp.asarray(mask[at]))

        each = jax.jacrev(losses)(zero)
        total = jax.tree.map(lambda t, g: t + np.sum(np.asarray(g) ** 2, axis=0), total, each)
    return total


@pytest.mark.parametrize("depth", [0, 1])
def test_gathered_squares_are_those_of_the_gradients_where_nothing_was_learned(
    reader, depth, computed
):
    found = reader.gather(THREE.document, adapter(5.0, depth))
    expected = squares_by_hand(reader.lm, depth)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape and float(one.min()) >= 0 < float(one.max())
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6 * float(one.max()))
    assert computed == ["cached_states", "read_part"]
    again = reader.gather(
        THREE.document, adapter(0.1, depth)
    )  # whatever the rule, none is followed
    assert computed == ["cached_states", "read_part"]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_gathered_leaves_come_back_where_they_were(reader):
    """Of additions to several products, each low-rank: as many leaves, of as many shapes."""
    made = NextToken(Gather(), suffix_blocks=1, rank=2, targets=("v", "mlp_out", "q"))
    shapes = jax.tree.map(jnp.shape, made.init(reader.lm))
    for _ in range(2):
        assert jax.tree.map(jnp.shape, reader.gather(THREE.document, made)) == shapes
