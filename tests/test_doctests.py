"""The examples in the docstrings of the evaluation modules, one at least for each function."""

import doctest
import importlib
import inspect

import pytest


@pytest.mark.parametrize("name", ["comparison", "costs", "gap", "metrics"])
def test_examples(name):
    module = importlib.import_module(f"ponderttt.evaluation.{name}")
    public = [
        function
        for label, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not label.startswith("_")
    ]
    assert public
    assert [f.__name__ for f in public if ">>>" not in (f.__doc__ or "")] == []
    result = doctest.testmod(module)
    assert result.attempted >= len(public) and result.failed == 0
