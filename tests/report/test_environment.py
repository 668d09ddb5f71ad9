"""Variables that a user's machine may have set: a command works under each, or refuses at once.

The smoke report itself was run under each by hand; here a command of a second stands in for it.
"""

import re
import sys
import tempfile
from pathlib import Path

import pytest
from support import environments

from ponderttt import machine

REFUSED = {
    "JAX without its device": (
        {"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS is 'cuda', which JAX does not find here"),
    "JAX without such a device": (
        {"JAX_PLATFORMS": "abacus"}, "JAX_PLATFORMS is 'abacus', which JAX does not find here"),
    "64 bits": ({"JAX_ENABLE_X64": "1"}, "JAX_ENABLE_X64 is set: .*; unset it"),
    "no truth value": ({"JAX_ENABLE_X64": "perhaps"}, "JAX does not start: .*JAX_ENABLE_X64"),
    "NaN is an error": ({"JAX_DEBUG_NANS": "True"}, "JAX_DEBUG_NANS is set: .*; unset it"),
    "infinity is an error": ({"JAX_DEBUG_INFS": "True"}, "JAX_DEBUG_INFS is set: .*; unset it"),
    "no transfers": ({"JAX_TRANSFER_GUARD": "disallow"}, "JAX_TRANSFER_GUARD is .*; unset it"),
    "other draws": ({"JAX_DEFAULT_PRNG_IMPL": "rbg"}, "a seed would draw other numbers; unset it"),
    "an unknown flag of XLA's": (
        {"XLA_FLAGS": "--xla_no_such_flag=1"}, "XLA does not start with XLA_FLAGS='--xla_no_such"),
}  # fmt: skip
CACHES = {
    "/proc/none": "cannot write to the folder /proc/none.*PONDERTTT_CACHE names",
    __file__: "cannot write to the folder .*test_env",
    "~nobody-of-this-name/x": "PONDERTTT_CACHE is .* which cannot be a path",
}
WORKS = {
    "JAX's and the hub's": {
        "JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest", "JAX_PLATFORMS": "", "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1", "HF_HOME": "/proc/none",
    },
    "Python's": {"PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "7", "PYTHONSAFEPATH": "1"},
}  # fmt: skip
TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "no locale": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "C": {"LANG": "C", "LC_ALL": "C"},
    "latin": {"PYTHONIOENCODING": "latin-1"},
    "dumb": {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "1"},
    "colours": {"FORCE_COLOR": "1", "COLUMNS": "1", "PYTHONIOENCODING": "ascii"},
    "no bars": {"TQDM_DISABLE": "1"},
    "a hash seed": {"PYTHONHASHSEED": "7"},
    "warnings": {"PYTHONWARNINGS": "error"},
    "a safe path": {"PYTHONSAFEPATH": "1"},
    "no temporary folder": {"TMPDIR": "/nonexistent"},
    "a read-only one": {"TMPDIR": "/proc"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "Jupyter's": {"JUPYTER_PATH": "/nonexistent", "JUPYTER_PLATFORM_DIRS": "1"},
    "the cache at home": {"PONDERTTT_CACHE": "~/somewhere"},
    "the cache by default": {"PONDERTTT_CACHE": ""},
}


def check_refused(found, said):
    assert (found.code, found.out) == (2, ""), found
    assert found.error.startswith("error: ") and found.error.count("\n") == 1
    assert re.search(said, found.error), found.error


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_at_once_in_one_line(name, tmp_path):
    variables, said = REFUSED[name]
    check_refused(environments.run(environments.PROBE, "jax", cwd=tmp_path, **variables), said)


@pytest.mark.parametrize("cache", CACHES, ids=["proc", "file", "nobody"])
def test_a_cache_that_cannot_be_is_refused_at_once_in_one_line(cache, tmp_path):
    found = environments.run(environments.PROBE, cwd=tmp_path, PONDERTTT_CACHE=cache)
    check_refused(found, CACHES[cache])


NOBODY = """
import pwd
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
"""


def test_without_a_home_the_cache_is_asked_for_and_with_one_all_works(tmp_path):
    script, cache = NOBODY + environments.PROBE, str(tmp_path / "cache")
    found = environments.run(script, cwd=tmp_path, HOME=None, PONDERTTT_CACHE=None)
    check_refused(found, "the cache folder .set PONDERTTT_CACHE to another.*cannot be a path")
    found = environments.run(script, cwd=tmp_path, HOME=None, PONDERTTT_CACHE=cache)
    assert found.code == 0, found.error


def test_processes_that_a_report_starts_have_a_home_and_speak_utf_8(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    made = machine.child_environment()
    assert made["HOME"] == tempfile.gettempdir() and "PYTHONOPTIMIZE" not in made
    assert (made["PYTHONUTF8"], made["PYTHONIOENCODING"]) == ("1", "utf-8")


def test_a_module_that_shadows_a_package_is_named(tmp_path):
    (tmp_path / "yaml.py").write_text("nothing = 1\n")
    command = [sys.executable, "-P", "-m", "ponderttt", "report", "--preset", "smoke"]
    found = environments.call(command, {"PYTHONPATH": str(tmp_path)})
    check_refused(found, "yaml.py stands in for the package 'yaml', .* take its folder out of")


@pytest.mark.parametrize("name", WORKS)
def test_a_step_is_computed_under_what_jax_and_python_may_have_set(name, tmp_path):
    found = environments.run(environments.PROBE, "jax", cwd=tmp_path, **WORKS[name])
    assert found.code == 0, found.error
    assert "well → [x]" in found.out


@pytest.mark.parametrize("name", TERMINALS)
def test_a_command_speaks_on_every_terminal(name, tmp_path):
    variables = {"HOME": str(tmp_path)} | TERMINALS[name]
    found = environments.run(environments.PROBE, cwd=tmp_path, **variables)
    assert found.code == 0, found.error
    assert not found.error
    assert "[x]" in found.out and "[/]" in found.out
    marks = ("ok", "failed") if "\\u2192" in found.out or "ascii" in name else ("✓", "✗")
    assert name == "latin" or all(mark in found.out for mark in marks), found.out
