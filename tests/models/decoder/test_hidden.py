import jax.numpy as jnp
import numpy as np
import pytest
from support import dense

from ponderttt.errors import InputError
from ponderttt.models.decoder import hidden as hidden_module
from ponderttt.models.decoder.hidden import cached_states, hidden_states
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.window import Window, window_of
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


CHUNK = Window(16, overlap=False)


class Calls:
    """How often a document was read; it can be killed at one of them."""

    def __init__(self, monkeypatch, killed_at=None):
        self.count, self.killed_at, self.read = 0, killed_at, hidden_module._read
        monkeypatch.setattr(hidden_module, "_read", self)

    def __call__(self, *arguments):
        self.count += 1
        if self.count == self.killed_at:
            raise KeyboardInterrupt
        return self.read(*arguments)


def test_states_are_those_of_the_chunks_read_alone(lm):
    documents = make_documents()
    states = hidden_states(lm, documents, window=CHUNK)
    inputs = np.asarray(documents.inputs).reshape(9, 16)
    expected = np.asarray(lm.hidden_states(inputs)).reshape(3, 6, 8, -1)
    np.testing.assert_allclose(states, expected, rtol=1e-5, atol=1e-5)


def test_a_chunk_longer_than_the_document_or_not_dividing_it_is_only_padded(lm):
    documents = make_documents()
    whole = hidden_states(lm, documents, window=Window(48, overlap=False))
    np.testing.assert_allclose(
        hidden_states(lm, documents, window=Window(64, overlap=False)), whole, atol=1e-5
    )
    np.testing.assert_allclose(
        hidden_states(lm, documents, window=Window(32, overlap=False))[:, :4],
        whole[:, :4],
        atol=1e-5,
    )


def test_earlier_states_are_bit_identical_when_a_token_changes(lm):
    documents = make_documents(count=1)
    states = hidden_states(lm, documents, window=CHUNK).reshape(48, -1)
    for position in (0, 7, 15, 16, 30, 46):
        tokens = documents.tokens.copy().reshape(-1)
        tokens[position] = (tokens[position] + 1) % 256
        changed = documents._replace(tokens=tokens.reshape(1, 6, 8))
        after = hidden_states(lm, changed, window=CHUNK).reshape(48, -1)
        np.testing.assert_array_equal(after[: position + 1], states[: position + 1])
        # Seen by the rest of its own chunk (and, as the next one's first input, at its start).
        assert not np.array_equal(after[position + 1], states[position + 1])


def test_cached_states_equal_computed_ones_and_are_computed_once(lm, folder, monkeypatch):
    documents, calls = make_documents(), Calls(monkeypatch)
    first = cached_states(lm, documents, window=CHUNK)
    second = cached_states(lm, documents, window=CHUNK)
    assert calls.count == len(documents.tokens)
    expected = hidden_states(lm, documents, window=CHUNK)
    for one, two, three in zip(first, second, expected, strict=True):
        assert isinstance(one.hidden, np.memmap) and not one.hidden.flags.writeable
        np.testing.assert_array_equal(one.hidden, two.hidden)
        np.testing.assert_array_equal(one.attention, two.attention)
        np.testing.assert_allclose(one.hidden, three, atol=1e-5)


def test_a_document_is_found_again_among_others(lm, folder, monkeypatch):
    documents, calls = make_documents(), Calls(monkeypatch)
    cached_states(lm, documents.select(slice(1, 2)), window=CHUNK)
    assert calls.count == 1
    cached_states(lm, documents, window=CHUNK)
    assert calls.count == 3


@pytest.mark.parametrize("change", ["window", "overlap", "tokens", "mask", "bos", "model"])
def test_whatever_the_states_depend_on_is_part_of_the_key(lm, folder, change):
    documents, settings, model = make_documents(count=1), {"window": CHUNK}, lm
    cached_states(lm, documents, **settings)
    if change == "model":
        model = TransformerLM.from_pretrained("tiny-gpt2")
    elif change == "window":
        settings[change] = Window(8, overlap=False)
    elif change == "overlap":
        settings["window"] = Window(16)
    elif change == "bos":
        documents = documents._replace(bos=np.int32(0))
    else:
        array = getattr(documents, change).copy()
        array[0, 0, 0] = not array[0, 0, 0]
        documents = documents._replace(**{change: array})
    cached_states(model, documents, **settings)
    assert len(list(folder.rglob("*.safetensors"))) == 2


def test_units_of_padding_have_no_states(lm):
    documents = make_documents(count=1)
    whole = hidden_states(lm, documents, window=CHUNK)
    documents.mask[0, 2:] = False
    states = hidden_states(lm, documents, window=CHUNK)
    assert not states[0, 2:].any()
    np.testing.assert_array_equal(states[0, :2], whole[0, :2])


def test_a_killed_run_goes_on_at_the_document_it_was_at(lm, folder, monkeypatch):
    documents = make_documents()
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patched:
        Calls(patched, killed_at=3)
        cached_states(lm, documents, window=CHUNK)
    assert len(list(folder.rglob("*.safetensors"))) == 2
    calls = Calls(monkeypatch)
    cached_states(lm, documents, window=CHUNK)
    assert calls.count == 1


@pytest.mark.parametrize("damage", [lambda b: b[:-10], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_file_names_itself_and_the_remedy(lm, folder, damage):
    documents = make_documents(count=1)
    cached_states(lm, documents, window=CHUNK)
    [path] = folder.rglob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="corrupt.*delete it") as error:
        cached_states(lm, documents, window=CHUNK)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_refused_before_the_forward(lm, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path / "file"))
    calls = Calls(monkeypatch)
    with pytest.raises(InputError, match="cannot write"):
        cached_states(lm, make_documents(), window=CHUNK)
    assert calls.count == 0


@pytest.mark.parametrize("chunk", [0, 12])
def test_a_unit_that_does_not_divide_the_chunk_is_refused(lm, chunk):
    with pytest.raises(InputError, match=f"8 tokens does not divide the window of {chunk}"):
        hidden_states(lm, make_documents(), window=Window(chunk, overlap=False))


def files(lengths=(3, 1, 4), unit: int = 8, seed: int = 0) -> Documents:
    """One document of files with so many units, each with padding at its end."""
    n = sum(lengths)
    tokens = np.random.default_rng(seed).integers(0, 256, (1, n, unit), dtype=np.int32)
    mask, starts = np.ones(tokens.shape, bool), np.zeros((1, n), bool)
    ends = np.cumsum(lengths)
    mask[0, ends - 1, -3:] = False
    starts[0, ends - lengths] = True
    return Documents(tokens, mask, np.int32(256), starts)


@pytest.mark.parametrize("tokens", [8, 16, 24, 64])
def test_the_banded_pass_is_the_dense_one_of_each_file(lm, tokens):
    documents = files()
    states = hidden_states(lm, documents, window=Window(tokens))[0]
    for start, stop in ((0, 3), (3, 4), (4, 8)):
        whole = jnp.asarray(documents.inputs[0, start:stop]).reshape(1, -1)
        expected = lm.decoder.final_norm(dense.prefix(lm, whole, lm.config.layers, tokens))[0]
        np.testing.assert_allclose(states[start:stop].reshape(-1, 32), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["tiny", "tiny-gpt2", "tiny-neox"])
def test_the_full_window_is_one_long_forward_of_a_short_file(name):
    model, documents = TransformerLM.from_pretrained(name), files()
    states = hidden_states(model, documents, window=window_of(model.config, 8))[0]
    for start, stop in ((0, 3), (3, 4), (4, 8)):
        expected = model.hidden_states(documents.inputs[0, start:stop].reshape(1, -1))[0]
        np.testing.assert_allclose(states[start:stop].reshape(-1, 32), expected, atol=2e-5)


def test_learned_positions_are_read_in_a_window_that_ends_with_the_unit():
    model, documents = TransformerLM.from_pretrained("tiny-gpt2"), files((6,))
    states = hidden_states(model, documents, window=Window(16))[0]
    for n in range(6):
        inputs = documents.inputs[0, max(0, n - 1) : n + 1].reshape(1, -1)
        expected = np.asarray(model.hidden_states(inputs))[0, -8:]
        np.testing.assert_allclose(states[n], expected, atol=2e-5)


@pytest.mark.parametrize("window", [Window(16), Window(64), Window(16, overlap=False)])
@pytest.mark.parametrize("name", ["tiny", "tiny-gpt2", "tiny-neox"])
@pytest.mark.parametrize("suffix_blocks", [0, 1])
def test_no_state_depends_on_a_later_token_or_another_file(name, window, suffix_blocks):
    model, documents = TransformerLM.from_pretrained(name), files()

    def read(documents):
        return hidden_states(model, documents, window=window, suffix_blocks=suffix_blocks)[0]

    states = read(documents)
    for unit, at in ((0, 0), (1, 5), (2, 3), (3, 0), (5, 7), (7, 2)):
        tokens = documents.tokens.copy()
        tokens[0, unit, at] = (tokens[0, unit, at] + 1) % 256
        after = read(documents._replace(tokens=tokens))
        before = unit * 8 + at + 1
        np.testing.assert_array_equal(
            after.reshape(64, -1)[:before], states.reshape(64, -1)[:before]
        )
        file = [stop for stop in (3, 4, 8) if unit < stop][0]
        np.testing.assert_array_equal(after[file:], states[file:])
        assert (after != states).any() or before == 64 or (at == 7 and unit == file - 1)


def test_a_window_above_the_models_positions_is_refused(lm):
    with pytest.raises(InputError, match="a window of 8192 tokens: the model has positions for"):
        window_of(lm.config, 8, 8192)
    assert window_of(lm.config, 8).tokens == lm.config.max_positions // 8 * 8
    with pytest.raises(InputError, match="a window of 8192 tokens: the model has positions for"):
        hidden_states(lm, make_documents(), window=Window(8192))
