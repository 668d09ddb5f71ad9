"""The package installed without its checkout: what works, what says that it needs the checkout."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from support import environments

from ponderttt import __main__ as command
from ponderttt import storage

PACKAGE = Path(storage.__file__).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """`installed(*command)` where the package lies alone in a folder, within another's git."""
    project = tmp_path_factory.mktemp("project")
    site = project / "venv" / "site-packages"
    shutil.copytree(PACKAGE, site / "ponderttt", ignore=shutil.ignore_patterns("__pycache__"))
    work = project / "work"
    work.mkdir()
    setup = "git init -q . && git -c user.name=x -c user.email=x commit -q --allow-empty -m x"
    assert environments.call(["sh", "-c", setup], {}, cwd=project).code == 0
    before = sorted(site.rglob("*"))

    def call(*arguments):
        variables = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
        said = environments.call([sys.executable, *arguments], variables, cwd=work)
        assert sorted(site.rglob("*")) == before, "something was written beside the package"
        return said

    return call


@pytest.mark.parametrize("name", command.CHECKOUT_ONLY)
def test_what_needs_the_checkout_says_so_and_what_there_is(installed, name):
    said = installed("-m", "ponderttt", name)
    assert (said.code, said.out) == (2, "")
    assert said.error.startswith(f"error: ponderttt {name} needs the checkout: ")
    assert said.error.count("\n") == 1
    for other in command.COMMANDS:
        assert (other in said.error.split("library and")[1]) == (other not in command.CHECKOUT_ONLY)


def test_help_says_which_commands_need_the_checkout(installed):
    said = installed("-m", "ponderttt", "--help")
    assert said.code == 0 and "report, run, render, book: in the checkout only" in said.out
    assert installed("-m", "ponderttt", "report", "--help").code == 0


def test_what_does_not_need_it_works_and_writes_where_it_is_run(installed):
    script = (
        "from ponderttt import result, storage\n"
        "from ponderttt.result import Result\n"
        "import pandas as pd\n"
        "Result('x', {}, {'t': pd.DataFrame({'a': [1]})}).save()\n"
        "print(result.records_folder(), storage.commit(), storage.in_checkout())"
    )
    said = installed("-c", script)
    assert said.code == 0, said.error
    folder, commit, checkout = said.out.split()
    assert Path(folder).parts[-4:] == ("work", ".report", "manual", "records")
    assert (commit, checkout) == ("unknown", "False")
    assert json.loads((Path(folder) / "x" / "record.json").read_text())["name"] == "x"


def test_this_is_the_checkout():
    assert storage.in_checkout()
    assert storage.outputs_folder("smoke") == storage.ROOT / ".report" / "smoke"
