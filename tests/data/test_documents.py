import json
import random

import numpy as np
import pytest

from ponderttt.data import create_data_iterator, get_tokenizer, load_documents
from ponderttt.data.documents import CodeDataset
from ponderttt.data.encoding import encode_texts
from ponderttt.data.sources import load_source
from ponderttt.errors import InputError

SIZES = dict(unit=32, units=8)


@pytest.fixture(scope="module")
def tokenizer():
    return get_tokenizer("bytes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of 80 Python files of 400 to 2,000 bytes, no line of which occurs twice."""
    root = tmp_path_factory.mktemp("code")
    words = random.Random(0)
    for number in range(80):
        lines = [
            f"value_{words.randrange(10**9):09d} = compute()\n" for _ in range(16 + number // 2)
        ]
        (root / f"module_{number:02d}.py").write_text("".join(lines))
    return root


# --- documents


def test_documents_are_the_beginnings_of_files(tokenizer, folder):
    corpus = load_documents(folder, tokenizer, split="train", **SIZES)
    texts = {row["path"]: row["text"] for row in load_source(folder)}
    assert corpus.documents.tokens.shape == (len(corpus), 8, 32)
    assert corpus.documents.tokens.dtype == np.int32 and corpus.documents.bos == 256
    for path, tokens, mask in zip(
        corpus.paths, corpus.documents.tokens, corpus.documents.mask, strict=True
    ):
        assert bytes(tokens[mask].tolist()) == texts[path].encode()[: mask.sum()]
        assert mask.sum() == min(256, len(texts[path]))


def test_padding_only_follows_the_last_token_and_short_files_are_left_out(tokenizer, folder):
    corpus = load_documents(folder, tokenizer, split="train", unit=64, units=16, min_units=10)
    mask = corpus.documents.mask.reshape(len(corpus), -1)
    assert (np.diff(mask.astype(int), axis=1) <= 0).all() and not mask.all()
    sizes = {row["path"]: len(row["text"]) for row in load_source(folder)}
    assert mask.sum(1).tolist() == [min(1024, sizes[path]) for path in corpus.paths]
    assert mask.sum(1).min() >= 640
    assert (corpus.documents.tokens[~corpus.documents.mask] == 0).all()


def test_splits_share_no_file(tokenizer, folder):
    found = [
        set(load_documents(folder, tokenizer, split=split, **SIZES).paths)
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, found)) == len(set.union(*found)) == 80


def test_fewer_documents_are_the_beginning_of_more(tokenizer, folder):
    many = load_documents(folder, tokenizer, split="train", **SIZES)
    few = load_documents(folder, tokenizer, split="train", max_documents=5, **SIZES)
    assert few.paths == many.paths[:5]
    np.testing.assert_array_equal(few.documents.tokens, many.documents.tokens[:5])


def test_the_seed_decides_the_order(tokenizer, folder):
    one, again, other = (
        load_documents(folder, tokenizer, split="train", seed=seed, **SIZES).paths
        for seed in (1, 1, 2)
    )
    assert one == again and one != other and sorted(one) == sorted(other)


def test_uniform_tokens_cover_any_vocabulary_evenly(tokenizer):
    corpus = load_documents("uniform", tokenizer, split="test", unit=256, units=16, max_documents=4)
    counts = np.bincount(corpus.documents.tokens.reshape(-1), minlength=len(tokenizer))
    expected = 4 * 16 * 256 / len(tokenizer)
    assert len(counts) == len(tokenizer) == 257
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_only_as_much_is_tokenised_as_is_read_and_the_tokens_are_the_same():
    tokenizer = get_tokenizer("gpt2")
    text = "".join(row["text"] for row in load_source("stdlib").select(range(4)))
    whole = tokenizer(text, verbose=False)["input_ids"]
    sparse = "-" * 20_000 + "y = 1\n" * 50  # GPT-2 has tokens of 64 dashes
    for limit in (1, 100, 999):
        first, second = encode_texts(tokenizer, [text, sparse], ["python"] * 2, limit)
        assert first.tolist() == whole[:limit]
        assert second.tolist() == tokenizer(sparse)["input_ids"][:limit]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk": 100}, "unit 32 does not divide chunk 100"),
        ({"split": "dev"}, "unknown split 'dev': expected one of train, validation, test"),
        ({"unit": 0}, "unit is 0: expected a positive integer"),
        ({"units": 2.5}, "units is 2.5: expected a positive integer"),
        ({"max_documents": 0}, "max_documents is 0"),
        ({"min_units": 9}, "min_units 9 is over units 8"),
        ({"unit": 5000}, r"no train document of at least 2 units of 5000 .*files: train \d+"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tokenizer, folder, change, message):
    with pytest.raises(InputError, match=message) as error:
        load_documents(folder, tokenizer, **{"split": "train", **SIZES, **change})
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_a_start_is_refused(folder):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(InputError, match="no bos_token_id"):
        load_documents(folder, bare, split="train", **SIZES)


# --- the training iterator


def batches(tokenizer, folder, **changes):
    settings = {"split": "train", "batch_size": 4, "seq_length": 256, "chunk_size": 64}
    return create_data_iterator(tokenizer, source=folder, **{**settings, **changes})


def equal(one, other) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_batches_have_the_stated_shapes_and_alignment(tokenizer, folder):
    iterator = batches(tokenizer, folder, max_examples=10)
    found = list(iterator)
    assert len(found) == len(iterator) == 3
    for batch in found:
        assert batch["input_ids"].shape == batch["labels"].shape == (4, 256)
        assert batch["chunks"].shape == batch["chunk_mask"].shape == (4, 4, 64)
        assert (batch["input_ids"][:, 0] == tokenizer.bos_token_id).all()
        assert np.array_equal(batch["input_ids"][:, 1:], batch["labels"][:, :-1])
    assert found[-1]["attention_mask"].any(axis=1).tolist() == [True, True, False, False]


def test_every_example_comes_once(tokenizer, folder):
    dataset = CodeDataset(tokenizer, "train", 256, source=folder)
    rows = [row[mask] for b in batches(tokenizer, folder) for row, mask in
            zip(b["labels"], b["attention_mask"], strict=True) if mask.any()]  # fmt: skip
    assert len(rows) == len(dataset)
    for row, ids in zip(rows, dataset, strict=True):
        np.testing.assert_array_equal(row, ids)


def test_a_resumed_pass_is_the_uninterrupted_one(tokenizer, folder):
    whole = list(batches(tokenizer, folder))
    first = batches(tokenizer, folder)
    before = [next(first) for _ in range(3)]
    second = batches(tokenizer, folder)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    resumed = before + list(second)
    assert len(resumed) == len(whole)
    assert all(equal(a, b) for a, b in zip(resumed, whole, strict=True))


@pytest.mark.parametrize("count", [2, 4])
def test_the_processes_shards_make_the_whole_batch(tokenizer, folder, count):
    shards = [
        list(batches(tokenizer, folder, process_index=i, process_count=count)) for i in range(count)
    ]
    for whole, *parts in zip(batches(tokenizer, folder), *shards, strict=True):
        joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
        assert equal(whole, joined)


def test_the_state_of_another_pass_is_refused(tokenizer, folder):
    state = batches(tokenizer, folder, seed=1).state_dict()
    with pytest.raises(InputError, match="another pass: it differs in seed"):
        batches(tokenizer, folder).load_state_dict(state)
    with pytest.raises(InputError, match="next_batch"):
        batches(tokenizer, folder, seed=1).load_state_dict(state | {"next_batch": 10**6})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_size": 100}, "chunk_size 100 does not divide seq_length 256"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_examples": -1}, "max_examples is -1"),
        ({"split": "tests"}, "unknown split"),
        ({"process_index": 2, "process_count": 2}, "process_index is 2: expected 0 to 1"),
        ({"process_index": 0, "process_count": 3}, "does not divide among 3 processes"),
    ],
)
def test_iterator_settings_that_do_not_fit_are_refused(tokenizer, folder, changes, message):
    with pytest.raises(InputError, match=message):
        batches(tokenizer, folder, **changes)
