"""The continuous cache: its formula written out, what it may see, and what it never finds."""

import numpy as np
import pytest
from support.made_repository import made_repository

from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.prepare import repository_reader
from ponderttt.prepare.neural_cache import cache_losses
from ponderttt.prepare.repository_reader import RepositoryReader

WINDOW, SHARPNESS = Window(8), (0.0, 1.0, 10.0)
MADE = made_repository(spare=1, symbols=6)
DOCUMENT = MADE.document
REAL = DOCUMENT.mask.reshape(-1)


@pytest.fixture(scope="module")
def reader():
    return RepositoryReader(TransformerLM.from_pretrained("tiny"), WINDOW)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path))


def losses(reader, document=DOCUMENT, depth: int = 0, sharpness=SHARPNESS):
    """One row per sharpness, all tokens of the repository one after another."""
    found = cache_losses(reader, document, depth, sharpness)
    assert found.shape == (len(sharpness), *document.tokens.shape[1:])
    return found.reshape(len(sharpness), -1)


def changed(places: dict[int, int]):
    """The repository with other tokens at some places."""
    tokens = DOCUMENT.tokens.copy()
    for place, token in places.items():
        tokens.reshape(-1)[place] = token
    return DOCUMENT._replace(tokens=tokens)


def slow(reader, document, sharpness: float):
    """Token by token: the softmax over all real tokens before it, in float64."""
    states = hidden_states(reader.lm, document, window=WINDOW)[0].astype(float)
    tokens, mask = document.tokens.reshape(-1), document.mask.reshape(-1)
    states, found = states.reshape(len(tokens), -1), np.full(len(tokens), np.inf)
    states[mask] /= np.linalg.norm(states[mask], axis=-1, keepdims=True)
    for t in np.flatnonzero(mask):
        before = [i for i in range(t) if mask[i]]
        scores = np.exp([sharpness * (states[t] @ states[i]) for i in before])
        mine = sum(score for i, score in zip(before, scores, strict=True) if tokens[i] == tokens[t])
        if mine:
            found[t] = -np.log(mine / scores.sum())
    return found


def matched(document=DOCUMENT) -> np.ndarray:
    """Whether a real token before each token is that token."""
    tokens, real = document.tokens.reshape(-1), document.mask.reshape(-1)
    return np.array([(real[:t] & (tokens[:t] == tokens[t])).any() for t in range(tokens.size)])


# --- the formula


@pytest.mark.parametrize("symbols", [6, 257])
def test_losses_are_those_of_the_softmax_written_out(reader, symbols):
    document = made_repository(spare=1, symbols=symbols).document
    found = losses(reader, document)
    for i, sharpness in enumerate(SHARPNESS):
        expected = slow(reader, document, sharpness)
        np.testing.assert_allclose(found[i][REAL], expected[REAL], rtol=2e-5, atol=2e-5)
    assert (found[2][REAL & matched(document)] != found[1][REAL & matched(document)]).any()


def test_without_sharpness_it_is_the_share_of_the_token_in_what_was_read(reader):
    found, tokens = losses(reader)[0], DOCUMENT.tokens.reshape(-1)
    for t in np.flatnonzero(REAL & matched()):
        share = (REAL[:t] & (tokens[:t] == tokens[t])).sum() / REAL[:t].sum()
        np.testing.assert_allclose(found[t], -np.log(share), rtol=1e-5, atol=1e-6)


def test_a_loss_is_infinite_exactly_where_the_token_is_new(reader):
    found = losses(reader)
    assert not np.isnan(found).any() and (found > -1e-6).all()
    for row in found:
        np.testing.assert_array_equal(np.isinf(row[REAL]), ~matched()[REAL])
    assert 0 < (~matched()[REAL]).sum() < REAL.sum() and np.isinf(found[:, 0]).all()


@pytest.mark.parametrize("depth", [1, 2])
def test_states_may_come_from_before_the_last_blocks(reader, depth):
    close = {"rtol": 1e-4, "atol": 1e-4}
    found, expected = losses(reader, depth=depth), losses(reader)
    np.testing.assert_allclose(found[:, REAL], expected[:, REAL], **close)


# --- what it may see


@pytest.mark.parametrize("place", [5, 9, 12, 14, 23, 32])
def test_no_loss_depends_on_a_later_token_across_files_too(reader, place):
    """To the bit; and later files see it: where it was found before, it is found no more."""
    assert REAL[place]
    before = losses(reader)
    after = losses(reader, changed({place: 200}))
    np.testing.assert_array_equal(after[:, :place], before[:, :place])
    assert np.isinf(after[:, place]).all()  # new, as its own target
    ends = [4 * (span.first_unit + span.units) for span in MADE.files[:-1]]
    later = REAL & (np.arange(REAL.size) >= min((e for e in ends if e > place), default=place + 1))
    assert (after[1:, later] != before[1:, later]).any(axis=1).all()


@pytest.mark.parametrize("place", [9, 23, 37])
def test_a_token_matters_to_its_own_loss_as_the_target_alone(reader, place):
    """Over what a token could be, the shares sum to 1: the same weights serve all of them."""
    seen = np.unique(DOCUMENT.tokens.reshape(-1)[:place][REAL[:place]])
    assert REAL[place] and len(seen) > 2
    each = [losses(reader, changed({place: int(token)}))[:, place] for token in seen]
    np.testing.assert_allclose(np.exp(-np.asarray(each)).sum(axis=0), 1, rtol=1e-5)


def test_padding_is_never_matched(reader):
    """Whatever stands there: a token that was seen in padding only is new."""
    places = np.flatnonzero(~REAL)
    last = int(np.flatnonzero(REAL)[-1])
    assert (places < last).sum() > 2
    before = losses(reader, changed({last: 250}))
    after = losses(reader, changed({last: 250} | dict.fromkeys(places.tolist(), 250)))
    np.testing.assert_array_equal(after[:, REAL], before[:, REAL])
    assert np.isinf(after[:, last]).all()


# --- kept


def test_losses_are_computed_once(reader, monkeypatch):
    first = losses(reader)
    with monkeypatch.context() as patch:
        patch.setattr(repository_reader, "cached_states", lambda *a, **k: pytest.fail("computed"))
        np.testing.assert_array_equal(losses(reader), first)
    other = losses(reader, sharpness=(10.0, 1.0, 0.0))
    np.testing.assert_array_equal(other[::-1], first)
