import numpy as np
import pytest
from support.wikitext_files import FILES, SIZE, one_line, write_files

from ponderttt.data import bpe, load_language
from ponderttt.data import language as wikitext
from ponderttt.data.bpe import train_tokenizer
from ponderttt.data.tokenizer import START
from ponderttt.errors import InputError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("wikitext"))


@pytest.fixture(scope="module")
def corpus(files):
    return load_language(files, vocab_size=SIZE)


def test_the_vocabulary_has_exactly_the_size_and_every_byte(corpus):
    tokenizer = corpus.tokenizer
    assert len(tokenizer) == SIZE == len(set(tokenizer.get_vocab().values()))
    assert tokenizer.bos_token == tokenizer.eos_token == START
    assert tokenizer.bos_token_id == SIZE - 1
    text = "alpha beta  héllo 世界 <|endoftext|> <unk>\x00\n\t"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.bos_token_id not in ids and tokenizer.unk_token_id is None
    single = [tokenizer(chr(byte))["input_ids"] for byte in range(128)]
    assert all(len(ids) == 1 for ids in single)


def test_it_is_trained_on_the_training_split_only(corpus):
    assert len(corpus.tokenizer.tokenize(" alpha")) == 1
    assert len(corpus.tokenizer.tokenize(" zyzzyva")) > 4
    seen = train_tokenizer([FILES["train"], FILES["test"]], SIZE)
    assert len(seen.tokenize(" zyzzyva")) == 1


def test_the_same_texts_give_the_same_bytes(cache, tmp_path, files):
    contents = []
    for _ in range(2):
        corpus = load_language(files, vocab_size=SIZE)
        [file] = (cache / "tokenizers").rglob("*.safetensors")
        contents.append((corpus.tokenizer.backend_tokenizer.to_str(), corpus.record))
        file.unlink()
    assert contents[0] == contents[1]


def test_training_and_tokenising_are_done_once(cache, files, monkeypatch):
    first = load_language(files, vocab_size=SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(bpe, "_train", None)
        patch.setattr(wikitext, "_encode", None)
        again = load_language(files, vocab_size=SIZE)
        with pytest.raises(TypeError):  # of another size it is another tokenizer
            load_language(files, vocab_size=SIZE + 1)
        with pytest.raises(TypeError):  # and by another tokenizer these are other tokens
            load_language(files, tokenizer="bytes")
    assert again.record == first.record
    for split, texts in first.texts.items():
        for one, two in zip(texts, again.texts[split], strict=True):
            assert one.title == two.title and one.tokens.dtype == two.tokens.dtype == np.int32
            np.testing.assert_array_equal(one.tokens, two.tokens)


def test_a_changed_text_is_tokenised_again(cache, tmp_path):
    folder = write_files(tmp_path / "files", files=FILES)
    first = load_language(folder, tokenizer="bytes")
    write_files(folder, files={"test": FILES["test"].replace("zyzzyva", "zyzzyvb", 1)})
    again = load_language(folder, tokenizer="bytes")
    assert again.record["sha256"] != first.record["sha256"]
    difference = again.texts["test"][-1].tokens != first.texts["test"][-1].tokens
    assert difference.sum() == 1


def test_damaged_tokens_name_the_file_and_the_remedy(cache, files):
    load_language(files, tokenizer="bytes")
    [file] = (cache / "tokens").rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="corrupt.*delete it") as error:
        load_language(files, tokenizer="bytes")
    assert str(file) in one_line(error)


def test_a_damaged_tokenizer_names_the_file_and_the_remedy(cache, files):
    load_language(files, vocab_size=SIZE)
    [file] = (cache / "tokenizers").rglob("*.safetensors")
    whole = file.read_bytes()
    for damaged in (whole[:-10], whole.replace(b"alpha", b"alphb", 1)):
        assert damaged != whole
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="corrupt.* delete it") as error:
            load_language(files, vocab_size=SIZE)
        assert str(file) in one_line(error)


@pytest.mark.parametrize("size", [256, 0, True, 4096.0])
def test_a_size_that_no_vocabulary_has_is_refused(tmp_path, size):
    with pytest.raises(InputError, match="vocab_size .* at least 257"):
        load_language(tmp_path, vocab_size=size)


def test_too_little_text_for_the_vocabulary_says_how_many_there_are(cache, files):
    with pytest.raises(InputError, match=r"has pairs for (\d+) tokens, not for 4096") as error:
        load_language(files)
    most = int(one_line(error).split("at most ")[1].split()[0])
    assert len(load_language(files, vocab_size=most).tokenizer) == most
    assert not list((cache / "tokenizers").glob("bpe-4096-*"))
