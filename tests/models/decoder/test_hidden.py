import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.errors import InputError
from ponderttt.models.attention import attention_summary
from ponderttt.models.decoder.hidden import cached_states, hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window
from ponderttt.types import Documents


@pytest.fixture(scope="module")
def lm():
    return TransformerLM.from_pretrained("tiny")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path))
    return tmp_path / "hidden"


def make_documents(count: int = 3, units: int = 6, unit: int = 8, seed: int = 0) -> Documents:
    tokens = np.random.default_rng(seed).integers(0, 256, (count, units, unit), dtype=np.int32)
    mask = np.ones(tokens.shape, bool)
    mask[-1].reshape(-1)[-5:] = False
    return Documents(tokens, mask, np.int32(256))


class Counting(TransformerLM):
    """A model that counts its forward calls and can be killed at one of them."""

    def __init__(self, lm, killed_at=None):
        vars(self).update(vars(lm), lm=lm, calls=0, killed_at=killed_at)

    def hidden_states(self, tokens):
        vars(self)["calls"] += 1
        if self.calls == self.killed_at:
            raise KeyboardInterrupt
        return self.lm.hidden_states(tokens)

    def prefix_states(self, tokens, suffix_blocks):
        self.hidden_states(tokens)
        return self.lm.prefix_states(tokens, suffix_blocks)

    def suffix_states(self, h, suffix_blocks):
        return self.lm.suffix_states(h, suffix_blocks)

    def last_attention(self, h):
        return self.lm.last_attention(h)


def test_states_are_those_of_the_chunks_read_alone(lm):
    documents = make_documents()
    states = hidden_states(lm, documents, window=Window(16, overlap=False))
    inputs = np.asarray(documents.inputs).reshape(9, 16)
    expected = np.asarray(lm.hidden_states(inputs)).reshape(3, 6, 8, -1)
    np.testing.assert_allclose(states, expected, rtol=1e-5, atol=1e-5)


def test_a_chunk_longer_than_the_document_or_not_dividing_it_is_only_padded(lm):
    documents = make_documents()
    whole = hidden_states(lm, documents, window=Window(48, overlap=False))
    np.testing.assert_allclose(hidden_states(lm, documents, window=Window(64, overlap=False)), whole, atol=1e-5)
    np.testing.assert_allclose(
        hidden_states(lm, documents, window=Window(32, overlap=False))[:, :4], whole[:, :4], atol=1e-5
    )


def test_earlier_states_are_bit_identical_when_a_token_changes(lm):
    documents = make_documents(count=1)
    states = hidden_states(lm, documents, window=Window(16, overlap=False)).reshape(48, -1)
    for position in (0, 7, 15, 16, 30, 46):
        tokens = documents.tokens.copy().reshape(-1)
        tokens[position] = (tokens[position] + 1) % 256
        changed = documents._replace(tokens=tokens.reshape(1, 6, 8))
        after = hidden_states(lm, changed, window=Window(16, overlap=False)).reshape(48, -1)
        np.testing.assert_array_equal(after[: position + 1], states[: position + 1])
        # Seen by the rest of its own chunk (and, as the next one's first input, at its start).
        assert not np.array_equal(after[position + 1], states[position + 1])


def test_cached_states_equal_computed_ones_and_are_computed_once(lm, folder):
    documents, model = make_documents(), Counting(lm)
    first = cached_states(model, documents, window=Window(16, overlap=False))
    calls = model.calls
    second = cached_states(model, documents, window=Window(16, overlap=False))
    assert calls == model.calls == len(documents.tokens)
    expected = hidden_states(lm, documents, window=Window(16, overlap=False))
    for one, two, three in zip(first, second, expected, strict=True):
        assert isinstance(one.hidden, np.memmap) and not one.hidden.flags.writeable
        np.testing.assert_array_equal(one.hidden, two.hidden)
        np.testing.assert_array_equal(one.attention, two.attention)
        np.testing.assert_allclose(one.hidden, three, atol=1e-5)


def test_the_summary_of_the_attention_is_that_of_its_weights(lm):
    """Written out over one query at a time; and causal to the bit."""
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(1, 6, 2, 3, 8)), rng.normal(size=(1, 6, 2, 8))
    summary = np.asarray(attention_summary(jnp.asarray(q), jnp.asarray(k)))[0]
    for t in range(6):
        scores = np.einsum("grd,jgd->grj", q[0, t], k[0, : t + 1]) / np.sqrt(8)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        entropy = -(weights * np.log(weights)).sum(-1) / np.log(6)
        small = (weights < 1 / 6).mean()
        expected = [entropy.mean(), entropy.std(), weights.max(-1).mean(), small]
        np.testing.assert_allclose(summary[t], expected, rtol=1e-4, atol=1e-5)
    later = k.copy()
    later[:, 4:] += 1
    again = np.asarray(attention_summary(jnp.asarray(q), jnp.asarray(later)))[0]
    np.testing.assert_array_equal(again[:4], summary[:4])
    assert not np.array_equal(again[4:], summary[4:])


def test_a_document_is_found_again_among_others(lm, folder):
    documents, model = make_documents(), Counting(lm)
    cached_states(model, documents.select(slice(1, 2)), window=Window(16, overlap=False))
    calls = model.calls
    cached_states(model, documents, window=Window(16, overlap=False))
    assert model.calls == 3 * calls


@pytest.mark.parametrize("change", ["chunk", "tokens", "mask", "bos", "model"])
def test_whatever_the_states_depend_on_is_part_of_the_key(lm, folder, change):
    documents, settings, model = make_documents(count=1), {"chunk": 16}, lm
    cached_states(lm, documents, **settings)
    if change == "model":
        model = TransformerLM.from_pretrained("tiny-gpt2")
    elif change == "chunk":
        settings[change] = 8
    elif change == "bos":
        documents = documents._replace(bos=np.int32(0))
    else:
        array = getattr(documents, change).copy()
        array[0, 0, 0] = not array[0, 0, 0]
        documents = documents._replace(**{change: array})
    cached_states(model, documents, **settings)
    assert len(list(folder.rglob("*.safetensors"))) == 2


def test_chunks_of_padding_are_not_run(lm, monkeypatch):
    monkeypatch.setattr("ponderttt.models.decoder.hidden._TOKENS_PER_CALL", 16)
    documents = make_documents(count=1)
    documents.mask[0, 2:] = False
    model = Counting(lm)
    states = hidden_states(model, documents, window=Window(16, overlap=False))
    assert model.calls == 1 and not states[0, 2:].any()


def test_a_killed_run_goes_on_at_the_document_it_was_at(lm, folder):
    documents = make_documents()
    with pytest.raises(KeyboardInterrupt):
        cached_states(Counting(lm, killed_at=3), documents, window=Window(48, overlap=False))
    assert len(list(folder.rglob("*.safetensors"))) == 2
    model = Counting(lm)
    cached_states(model, documents, window=Window(48, overlap=False))
    assert model.calls == 1


@pytest.mark.parametrize("damage", [lambda b: b[:-10], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_file_names_itself_and_the_remedy(lm, folder, damage):
    documents = make_documents(count=1)
    cached_states(lm, documents, window=Window(16, overlap=False))
    [path] = folder.rglob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="corrupt.*delete it") as error:
        cached_states(lm, documents, window=Window(16, overlap=False))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_refused_before_the_forward(lm, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path / "file"))
    model = Counting(lm)
    with pytest.raises(InputError, match="cannot write"):
        cached_states(model, make_documents(), window=Window(16, overlap=False))
    assert model.calls == 0


@pytest.mark.parametrize("chunk", [0, 12])
def test_a_unit_that_does_not_divide_the_chunk_is_refused(lm, chunk):
    with pytest.raises(InputError, match=f"unit 8 does not divide chunk {chunk}"):
        hidden_states(lm, make_documents(), window=Window(chunk, overlap=False))
