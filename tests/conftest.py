"""Strictness for every test: annotations hold, no silent promotion, and caches of their own."""

import atexit
import inspect
import itertools
import os
import shutil
import tempfile
from pathlib import Path

if "PONDERTTT_CACHE" not in os.environ:
    os.environ["PONDERTTT_CACHE"] = tempfile.mkdtemp(prefix="ponderttt-test-cache-")
    atexit.register(shutil.rmtree, os.environ["PONDERTTT_CACHE"], ignore_errors=True)
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# Most of the tests' time is compilation, which a report and a second run need not repeat.
compiled = Path.home() / ".cache" / "ponderttt" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# As the smoke report has it, whose programs are the notebooks' own.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    os.environ["XLA_FLAGS"] = flags.strip()

import jax  # noqa: E402 - the variables above must be there first
import jaxtyping  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import pytest  # noqa: E402
from support import faults  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Shapes and types are what the signatures say. Only here: a kernel or a command runs without.
# The tower: an int is welcome where a float is asked for.
jaxtyping.install_import_hook(
    "ponderttt", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)


def pytest_configure(config):
    """Tests of faults try all their inputs where they are asked for."""
    faults.FULL = config.getoption("markexpr") == "faults"


def promoting(make):
    """`make` of optax (0.2.8), whose powers and schedules mix whole numbers with floats."""

    def made(*args, **kwargs):
        rule = make(*args, **kwargs)

        def update(*args, **kwargs):
            with jax.numpy_dtype_promotion("standard"):
                return rule.update(*args, **kwargs)

        return rule._replace(update=update)

    return made


optax.chain, optax.adamw = promoting(optax.chain), promoting(optax.adamw)


@pytest.fixture(autouse=True)
def refusals_are_ours(request):
    """Where a test expects an `InputError`, that answers a wrong type, and not its annotation.

    So it is where a test is marked `lists`: it hands a configuration lists, as users do.
    """
    refused = "raises(InputError" in inspect.getsource(request.function)
    refused |= request.node.get_closest_marker("lists") is not None
    jaxtyping.config.update("jaxtyping_disable", refused)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


WORDS = ["alpha", "beta", "gamma", "delta", "return", "while", "lambda", "print"]


@pytest.fixture(scope="session", autouse=True)
def same_dtype_everywhere():
    """What `auto` means to the tests, whatever machine they run on."""
    from ponderttt.models.decoder import precision

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "fastest", lambda: "float32")
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Sixty files of made-up code, enough for every split."""
    root = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for i in range(60):
        lines = [" ".join(rng.choice(WORDS, 6)) + f" {rng.integers(1e6)}" for _ in range(30)]
        (root / f"file{i}.py").write_text("\n".join(lines) + "\n")
    return root


def pytest_runtest_teardown(item):
    """Compiled programs are dropped in time: each maps memory, and Linux allows 65,530 maps."""
    maps = Path("/proc/self/maps")
    if next(_done) % 10 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


_done = itertools.count(1)
"""Tests of this process: the maps are counted after every tenth, for there may be many of them."""
