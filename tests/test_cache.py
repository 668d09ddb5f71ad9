"""Cache keys move with the code that computes, and kept values say where they are from."""

import ast
import functools
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors

from ponderttt import cache
from ponderttt.errors import InputError
from ponderttt.inner.update_rules import SGD
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.policies import EMAGate, UniformPolicy
from ponderttt.storage import commit
from ponderttt.training.checkpoints import restore_checkpoint, save_checkpoint
from ponderttt.types import Documents

FILES = {path.relative_to(cache.PACKAGE): path for path in cache.PACKAGE.rglob("*.py")}


def module_of(file: Path) -> str:
    return ".".join((cache.PACKAGE.name, *file.with_suffix("").parts)).removesuffix(".__init__")


def fingerprinted() -> set[str]:
    """The modules that some cache key has in it, as the calls of `code_fingerprint` name them."""
    found = set()
    for file, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("code_fingerprint"):
                said = node.args[0]
                if isinstance(said, ast.Constant):
                    found.add(said.value)
                elif ast.unparse(said) == "__name__":
                    found.add(module_of(file))
                else:  # `fingerprint` of an object: the module that defines its class
                    assert file == Path("cache.py"), f"{file}: {ast.unparse(node)}"
    return found


KEYS = sorted(
    fingerprinted()
    | {f"ponderttt.policies.{name}" for name in ("policy", "thresholds", "regression")}
    | {"ponderttt.training.policy_trainer"}
    | {f"ponderttt.models.adapters.{name}" for name in ("next_token", "reconstruction")}
)
"""Also of objects that keys hold: policies, their trainer, adapters."""


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "ponderttt"
    shutil.copytree(cache.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@functools.cache
def untouched(package: Path) -> dict[str, str]:
    return digests(package)


def digests(package: Path) -> dict[str, str]:
    return {key: cache.code_fingerprint.__wrapped__(key, package) for key in KEYS}


def moved(package: Path, file: Path, added: str = "\nTOUCHED = 1\n") -> set[str]:
    """The keys that are others while `file` has another statement at its end."""
    before, place = untouched(package), package / file
    text = place.read_text()
    place.write_text(text + added)
    try:
        return {key for key, digest in digests(package).items() if digest != before[key]}
    finally:
        place.write_text(text)


def test_the_keys_are_those_of_everything_that_is_kept():
    kept = {
        "models.decoder.hidden", "prepare.reader", "environment.tree", "training.adapter",
        "experiments.comparison.training", "data.language", "data.bpe", "data.sources",
    }  # fmt: skip
    assert {f"ponderttt.{name}" for name in kept} <= set(KEYS)


def test_every_key_moves_with_each_file_of_its_closure_and_with_no_other(copied):
    closures = {key: set(cache.import_closure(key, copied)) for key in KEYS}
    wrong = {}
    for file in FILES:
        expected = {key for key, names in closures.items() if module_of(file) in names}
        if moved(copied, file) != expected:
            wrong[str(file)] = expected
    assert wrong == {}
    assert all(len(names) > 1 for key, names in closures.items() if "duplicates" not in key)


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("models.decoder.hidden", "models/decoder/config.py"),
        ("models.decoder.hidden", "models/decoder/weights.py"),
        ("models.decoder.hidden", "models/decoder/families/llama.py"),
        ("models.decoder.hidden", "models/decoder/checkpoint.py"),
        ("models.decoder.hidden", "models/decoder/parameters.py"),
        ("training.adapter", "inner/limit.py"),
        ("experiments.comparison.training", "inner/limit.py"),
        ("data.sources", "data/wheels.py"),
        ("data.language", "data/encoding.py"),
    ],
)
def test_what_typed_lists_had_left_out_is_found(copied, key, file):
    assert f"ponderttt.{key}" in moved(copied, Path(file))


def test_a_closure_says_what_python_really_imports():
    """The import statements of every file lead to modules that there are, in one way or another."""
    for file in FILES:
        for name in cache.import_closure(module_of(file)):
            assert cache._exists(name, cache.PACKAGE) or name == cache.PACKAGE.name


@pytest.mark.parametrize("name", sorted(cache.IGNORED))
def test_a_module_that_is_ignored_moves_no_key_but_is_there(copied, name):
    assert moved(copied, Path(f"{name}.py")) == set()
    users = [path for path in FILES.values() if f"ponderttt.{name} import" in path.read_text()]
    assert users, f"nothing imports {name}: take it off the list"


@pytest.mark.parametrize("added", ["\n# a comment\n", '\n"""A text that stands alone."""\n'])
def test_what_is_only_said_moves_no_key(copied, added):
    assert moved(copied, Path("types.py"), added) == set()


def test_a_name_leads_to_where_it_is_defined_however_it_is_imported(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "__init__.py").write_text("from ponderttt.deep.real import f as g\n")
    (tmp_path / "deep" / "real.py").write_text("def f(): pass\n")
    for statement in (
        "from ponderttt.deep import g",
        "def h():\n    from ponderttt.deep import g",
        "import ponderttt.deep.real",
        "import ponderttt.deep.real as real",
        "from ponderttt.deep import real",
    ):
        (tmp_path / "one.py").write_text(statement + "\n")
        found = cache.import_closure("ponderttt.one", tmp_path)
        assert found == ["ponderttt.deep.real", "ponderttt.one"], statement
    (tmp_path / "one.py").write_text("from .deep import g\n")
    with pytest.raises(InputError, match=r"from \.deep: write it absolute"):
        cache.import_closure("ponderttt.one", tmp_path)


def small_documents(*shape):
    tokens = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    return Documents(tokens, np.ones(shape, bool), np.asarray(256))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (small_documents(1, 4, 64), small_documents(1, 2, 128)),
        (NextToken(SGD(1.0, clip=1.0)), NextToken(SGD(1.0, decay=1.0))),
        (NextToken(SGD(1.0), rank=4), NextToken(SGD(1.0), rank=8)),
        (UniformPolicy("SKIP"), UniformPolicy("UPDATE_4")),
        (EMAGate.calibrate([1.0, 2.0]), EMAGate.calibrate([1.0, 2.0], action="UPDATE_2")),
        (np.zeros(2, np.float32), np.zeros(1, np.float64)),
        ([1, (2, 3)], [(1, 2), 3]),
    ],
)
def test_a_fingerprint_tells_shapes_types_and_static_fields_apart(one, other):
    assert cache.fingerprint(one) == cache.fingerprint(one) != cache.fingerprint(other)


def test_a_fingerprint_moves_with_what_computes(monkeypatch):
    before = cache.fingerprint(1)
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_another_run")
    flags = cache.fingerprint(1)
    monkeypatch.setattr(cache.jax, "__version__", "0.0.1")
    assert len({before, flags, cache.fingerprint(1)}) == 3


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_taken", {})
    return tmp_path


def compute():
    return {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3), "flags": np.array([True, False]),
        "none": np.zeros((0, 4), np.int64), "one": np.float32(2.5),
    }  # fmt: skip


@pytest.mark.parametrize("mapped", [False, True])
def test_a_value_comes_back_as_it_was_and_is_computed_once(folder, mapped):
    cache.cached("tests", "key", compute, mapped=mapped)
    found = cache.cached("tests", "key", lambda: pytest.fail("computed again"), mapped=mapped)
    for name, array in compute().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].flags.writeable is not mapped


def test_of_those_who_ask_at_once_one_computes_and_the_others_wait(folder):
    found, waiting = [], []

    def ask():
        found.append(cache.cached("tests", "key", lambda: pytest.fail("computed again")))

    def slow():
        waiting.append(threading.Thread(target=ask))
        waiting[0].start()
        waiting[0].join(0.3)
        return compute()

    cache.cached("tests", "key", slow)
    waiting[0].join(10)
    np.testing.assert_array_equal(found[0]["a"], compute()["a"])
    assert not list(folder.rglob("*.lock"))


def test_a_computation_that_fails_lets_the_next_one_try(folder):
    with pytest.raises(ZeroDivisionError):
        cache.cached("tests", "key", lambda: 1 / 0)
    assert cache.cached("tests", "key", compute)["one"] == 2.5


def test_a_kept_value_carries_the_commit_and_the_seconds_that_made_it(folder, monkeypatch):
    ticks = iter([10.0, 12.5])
    monkeypatch.setattr(cache, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(cache, "commit", lambda: "abc")
    cache.cached("tests", "key", compute)
    [file] = (folder / "tests").rglob("*.safetensors")
    with safetensors.safe_open(file, "numpy") as opened:
        assert opened.metadata() == {"commit": "abc", "seconds": "2.500"}


def test_the_ledger_counts_what_others_computed_and_each_value_once(folder, monkeypatch):
    ticks = iter([0.0, 4.0, 0.0, 2.0, 0.0, 1.0])
    monkeypatch.setattr(cache, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(cache, "commit", lambda: "one")
    for key in ("first", "second"):
        cache.cached("tests", key, compute)
        cache.cached("tests", key, compute)
    assert cache.ledger() == (0, 0.0, [])
    cache._taken.clear()  # as another process would find it
    monkeypatch.setattr(cache, "commit", lambda: "two")
    cache.cached("tests", "third", compute)
    for _ in range(2):
        cache.cached("tests", "first", compute)
        cache.cached("tests", "second", compute, mapped=True)
    assert cache.ledger() == (2, 6.0, ["one"])


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"", lambda b: b[:-1] + b"?"])
def test_a_damaged_value_is_refused_with_the_remedy(folder, damage):
    cache.cached("tests", "key", compute)
    [file] = (folder / "tests").rglob("*.safetensors")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=f"{file} is corrupt.*delete it"):
        cache.cached("tests", "key", compute)


def test_a_checkpoint_carries_its_commit_and_all_the_seconds_before_it(folder):
    save_checkpoint(folder / "run", 3, {"w": np.ones(2, np.float32)}, seconds=7.25)
    assert cache.ledger() == (0, 0.0, [])
    cache._taken.clear()  # as another process would find it
    restored = restore_checkpoint(folder / "run", {"w": np.zeros(2, np.float32)})
    assert (restored.step, restored.seconds) == (3, 7.25)
    assert cache.ledger() == (1, 7.25, [commit()])


def test_values_are_written_in_one_place():
    writers = [
        file for file, path in FILES.items()
        if "safetensors.numpy" in path.read_text() or "np.save(" in path.read_text()
    ]  # fmt: skip
    assert Path("cache.py") in writers
    others = {str(file) for file in writers if file != Path("cache.py")}
    assert not {file for file in others if "cache_folder" in FILES[Path(file)].read_text()}
