import doctest
import hashlib
import os
from pathlib import Path

import pytest
from support.wikitext_files import FILES, one_line, write_files

from ponderttt.data import get_wikitext2_dataloaders, language_files, load_language
from ponderttt.data.language_files import cut_articles, read_language
from ponderttt.errors import InputError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "wikitext-2"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real WikiText-2 on this machine")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- files


@pytest.mark.parametrize("layout", ["wiki.{}.tokens", "wiki.{}.raw", "ptb.{}.txt", "{}.txt"])
def test_every_layout_is_read(tmp_path, layout):
    splits, record = read_language(write_files(tmp_path, layout))
    assert [a.title for a in splits["validation"]] == ["Valid 0", "Valid 1", "Valid 2"]
    assert {split: len(found) for split, found in splits.items()} == {
        "train": 8, "validation": 3, "test": 3
    }  # fmt: skip
    path = str(tmp_path / layout.format("test"))
    assert record[path] == hashlib.sha256(FILES["test"].encode()).hexdigest()


def titles(folder, split: str = "train") -> list[str]:
    return [article.title for article in read_language(folder)[0][split]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("first", ["", "\n"])
def test_articles_are_the_same_whatever_line_ends_and_marks(tmp_path, end, encoding, first):
    text = FILES["train"].removeprefix(" \n")  # the heading is the file's first line
    path = tmp_path / "wiki.train.tokens"
    path.write_bytes((first + text).replace("\n", end).encode(encoding))
    splits, _ = read_language(tmp_path)
    assert splits["train"] == cut_articles(text, "x")
    assert titles(tmp_path)[0] == "Train 0" and len(splits["train"]) == 8
    assert not any("\ufeff" in article.text for article in splits["train"])


@pytest.mark.parametrize("strip", [str.strip, str.lstrip, str.rstrip])
def test_lines_without_their_blanks_are_cut_into_the_same_articles(tmp_path, strip):
    stripped = "\n".join(map(strip, FILES["train"].split("\n")))
    write_files(tmp_path, files={"train": stripped})
    assert titles(tmp_path) == [f"Train {i}" for i in range(8)]


@pytest.mark.parametrize("layout", ["wiki.{}.tokens", "{}.txt"])
def test_headings_that_cannot_be_told_are_refused_with_the_remedy(tmp_path, layout):
    lines = [line.strip() for line in FILES["train"].split("\n")]
    dense = "\n".join(line for line in lines if line)
    write_files(tmp_path, layout, {"train": dense})
    with pytest.raises(InputError, match="lines like '= Train 0 =' .*keep the blank lines") as e:
        read_language(tmp_path)
    assert one_line(e)


def test_titles_that_look_numbered_stay_apart():
    text = "".join(f"\n= {title} =\n\nwords\n" for title in ("A", "A", "A (2)", "A"))
    assert [a.title for a in cut_articles(text, "x")] == ["A", "A (2)", "A (2) (2)", "A (3)"]


@pytest.mark.parametrize("name", ["valid", "validation", "val", "dev"])
def test_validation_may_be_called_so(tmp_path, name):
    write_files(tmp_path, "{}.txt", {name: "One .\n"})
    assert titles(tmp_path, "validation") == [f"{name}.txt"]


def test_a_folder_whose_name_is_not_utf8_is_read_and_named(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(InputError, match="holds nothing"):
        folder.mkdir()
        read_language(folder)
    _, record = read_language(write_files(folder))
    assert all(name.encode() and "caf\\xe9" in name for name in record)


def test_validation_may_be_written_out(tmp_path):
    files = {"train": "One .\n", "validation": "Two .\n", "test": "Three .\n"}
    splits, _ = read_language(write_files(tmp_path, "{}.txt", files))
    assert splits["validation"] == [("validation.txt", "Two .\n")]


def test_a_text_without_headings_is_whole(tmp_path):
    text = " no it was n't black monday \n but <unk> = <unk> \n = = \n"
    splits, _ = read_language(write_files(tmp_path, "ptb.{}.txt", {"test": text}))
    assert splits == {"test": [("ptb.test.txt", text)]}


def test_only_level_1_headings_between_blank_lines_cut():
    text = (
        " preface \n \n = A = B = \n \n One . \n = 1 <unk> and <unk> C = \n Two . \n \n"
        " = no = \n but = \n \n not = \n = this = \n \n"
        " = = Section = = \n \n Three . \n \n = <unk> = \n \n Four . \n \n = <unk> = \n \n Five ."
    )
    found = cut_articles(text, "name")
    assert [a.title for a in found] == ["name", "A = B", "<unk>", "<unk> (2)"]
    assert "".join(a.text for a in found) == text
    assert found[1].text.startswith(" = A = B = \n") and "Three" in found[1].text


@needs_real
def test_the_real_wikitext_2_has_sixty_articles_a_split():
    splits, _ = read_language(REAL)
    assert list(splits) == ["validation", "test"]
    for split, file, first in (
        ("validation", "valid.txt", "Homarus gammarus"),
        ("test", "test.txt", "Robert <unk>"),
    ):
        articles = splits[split]
        assert len(articles) == len({a.title for a in articles}) == 60
        assert articles[0].title == first and all(a.text.startswith(" = ") for a in articles)
        # Nothing is lost but the blank line before the first heading.
        text = (REAL / file).read_text(encoding="utf-8")
        assert " \n" + "".join(a.text for a in articles) == text


@needs_real
def test_the_real_wikitext_2_is_readable_where_it_has_text():
    corpus = load_language(REAL, tokenizer="gpt2")
    assert corpus.record["texts"] == {"validation": 60, "test": 60}
    assert 4 < (REAL / "test.txt").stat().st_size / corpus.record["tokens"]["test"] < 5
    assert len(set(corpus.windows("validation", 512).titles)) == 60
    with pytest.raises(InputError, match="no train split: expected one of validation, test"):
        corpus.windows("train", 512)
    with pytest.raises(InputError, match="no training text .* name a tokenizer"):
        load_language(REAL)


# --- the hub


class Hub:
    """Stands for `HfApi`."""

    def __init__(self, error: Exception | None = None):
        self.error = error

    def dataset_info(self, repository, revision, timeout):
        if self.error:
            raise self.error
        return type("Info", (), {"sha": f"commit of {revision}"})


def unreachable(monkeypatch):
    import huggingface_hub
    import transformers  # noqa: F401  (it reads the hub's names when it is first imported)

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: Hub(ConnectionError("no route")))


@pytest.mark.parametrize("name", ["wikitext-2", "wikitext-103", "ptb"])
def test_a_hub_out_of_reach_says_what_to_do(cache, monkeypatch, name):
    unreachable(monkeypatch)
    with pytest.raises(InputError, match=r"\(ConnectionError\); use 'wikipedia' or a local") as e:
        load_language(name)
    assert repr(name) in one_line(e)


@pytest.mark.parametrize(
    ("name", "column", "revision"),
    [("wikitext-103", "text", "main"), ("ptb", "sentence", "refs/convert/parquet")],
)
def test_rows_of_the_hub_become_the_files_text(monkeypatch, name, column, revision):
    import datasets
    import huggingface_hub

    asked = []

    def load_dataset(repository, **options):
        asked.append((repository, options))
        if name == "ptb":
            rows = {"train": ["a b", "c"], "validation": ["d"], "test": ["e"]}
        else:  # as the hub has them: no newline where a line is blank
            lines = {k: FILES[k].splitlines(keepends=True) for k in ("train", "valid", "test")}
            rows = {k: [line.strip() and line for line in v] for k, v in lines.items()}
            rows["validation"] = rows.pop("valid")
        return {k: {column: v} for k, v in rows.items()}

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    splits, record = read_language(name)
    [(repository, options)] = asked
    assert options["revision"] == f"commit of {revision}" == record[repository]
    if name == "ptb":
        assert splits["train"] == [("ptb/train", "a b\nc\n")]
    else:
        assert options["name"] == "wikitext-103-raw-v1"
        assert splits["train"] == cut_articles(FILES["train"], "x") and len(splits["train"]) == 8


def test_the_seeds_call_needs_a_hub_or_a_folder(cache, monkeypatch):
    unreachable(monkeypatch)
    with pytest.raises(InputError, match="'wikitext-2' is on the Hugging Face hub, which cannot"):
        get_wikitext2_dataloaders(batch_size=8, max_length=256)


# --- faults


def test_a_folder_in_no_layout_names_what_it_holds_and_what_is_expected(tmp_path):
    with pytest.raises(InputError, match="it holds nothing; expected one of wiki"):
        load_language(tmp_path)
    for i in range(10):
        (tmp_path / f"part{i}.csv").write_text("x")
    (tmp_path / "train.txt").mkdir()  # a folder is no file
    with pytest.raises(InputError, match="part0.csv, .* and 3 more") as error:
        load_language(tmp_path)
    expected = ("wiki.{train,valid,test}.tokens", " {train,valid,test}.txt", "ptb.")
    assert all(name in one_line(error) for name in expected)


@pytest.mark.parametrize("extra", ["test.txt", "ptb.train.txt"])
def test_a_folder_in_two_layouts_is_refused(tmp_path, extra):
    write_files(tmp_path)
    (tmp_path / extra).write_text("text")
    with pytest.raises(InputError, match=f"holds .*{extra}.*more than one file may be meant"):
        load_language(tmp_path)


def test_two_files_of_one_split_are_refused(tmp_path):
    write_files(tmp_path, "{}.txt", FILES | {"validation": "x"})
    with pytest.raises(InputError, match="valid.txt, validation.txt, .*one file a split"):
        load_language(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\xff", "cannot read .*expected UTF-8"), (b" \n \n", "is empty; expected the text")],
)
def test_a_file_that_is_no_text_is_named(tmp_path, content, message):
    write_files(tmp_path)
    (tmp_path / "wiki.valid.tokens").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        load_language(tmp_path)
    assert str(tmp_path / "wiki.valid.tokens") in one_line(error)


@pytest.mark.parametrize("source", ["wikitext-3", "/nowhere/at/all", Path(__file__)])
def test_an_unknown_corpus_says_what_is_known(source):
    with pytest.raises(InputError, match="expected wikipedia, wikitext-2, .* or a local folder"):
        load_language(source)


def test_an_unknown_tokenizer_is_refused_before_anything_is_read():
    with pytest.raises(InputError, match="unknown tokenizer 'nonsense'"):
        load_language("/nowhere/at/all", tokenizer="nonsense")


def test_the_examples_hold():
    result = doctest.testmod(language_files)
    assert result.attempted and not result.failed
