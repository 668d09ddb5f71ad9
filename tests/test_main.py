"""The command: what it imports before it is asked to compute, and what it says."""

import subprocess
import sys
from importlib import import_module

import pytest

from ponderttt import __main__ as command

HEAVY = ("jax", "numpy", "pandas", "tyro")


def imported(arguments):
    """What a process of its own has imported, of HEAVY, once the command has said its help."""
    script = (
        "import sys\nfrom ponderttt.__main__ import main\n"
        f"try:\n    main({arguments!r})\nfinally:\n"
        f"    print('imported', *(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, _, names = done.stdout.rpartition("imported")
    return said, set(names.split())


def test_help_imports_nothing_that_computes_and_names_every_command():
    said, names = imported(["--help"])
    assert names == set()
    assert "ponderttt report" in said
    for name, each in command.COMMANDS.items():
        assert f"\n  {name} " in said
        assert each.summary.split()[-1] in said


@pytest.mark.parametrize("name", command.COMMANDS)
def test_the_help_of_a_command_imports_no_jax(name):
    said, names = imported([name, "--help"])
    assert "jax" not in names
    assert f"usage: ponderttt {name} " in said and "show this help message" in said


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_is_where_the_table_says(name):
    module, function = command.COMMANDS[name].target.split(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no command: expected one of report, run"),
        (["tain-policy"], "unknown command 'tain-policy': expected one of report, run"),
        (["train-policy", "--units", "1"], "units is 1: a step pays on the next unit"),
        (["train-policy", "--units", "x"], "--units"),
        (["train-policy", "--unit", "2"], "ponderttt train-policy --help"),
        (["compare", "--methods", "best"], "unknown method 'best': expected some of uniform_k1"),
        (["oracle", "--sample_positions", "0"], "sample_positions is 0"),
        (["convergence", "--max_batches", "0"], "max_batches is 0: expected 1 or more"),
        (["train-baseline", "--action", "UPDATE_3"], "UPDATE_3"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ponderttt"])
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1
    assert said in error


def test_a_module_of_the_seeds_says_bad_input_in_one_line_too():
    module = "ponderttt.experiments.train_policy"
    done = subprocess.run(
        [sys.executable, "-m", module, "--units", "1"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: units is 1") and done.stderr.count("\n") == 1
