"""Every parameter file fits its notebook, and the experiment's configuration takes it."""

import dataclasses

import papermill
import pytest

from ponderttt.errors import InputError
from ponderttt.experiments import (
    baselines,
    comparison,
    convergence,
    gating,
    oracle,
    ppo_policy,
    repositories,
    token_oracle,
    update_rules,
)
from ponderttt.report.batch import notebooks, runner

EXPERIMENTS = (
    baselines, comparison, convergence, gating, oracle, ppo_policy, repositories, token_oracle,
    update_rules,
)  # fmt: skip
CONFIGS = {each.__name__.split(".")[-1]: each.CONFIG for each in EXPERIMENTS}
COMMAND_ONLY = {"comparison": {"tokenizer", "vocab_size", "test"}}
"""Fields that the command has and the notebook has not."""
FILES = sorted(notebooks.PARAMS.glob("*/*.yaml"))


def test_every_preset_has_parameters_for_every_notebook():
    assert notebooks.presets() == ["cpu", "gpu", "quick", "smoke"]
    for preset in notebooks.presets():
        for name in notebooks.names():
            assert notebooks.params_file(preset, name).is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_parameter_file_fits_its_notebook(path):
    notebook = notebooks.NOTEBOOKS / f"{path.stem}.ipynb"
    params = notebooks.load_params(path, notebook)
    assert params.keys() == papermill.inspect_notebook(notebook).keys()
    assert len(params) <= 12
    notebooks.config_of(path.stem, params)


@pytest.mark.parametrize("name", notebooks.names())
def test_a_notebook_defaults_to_smoke(name):
    notebook = notebooks.NOTEBOOKS / f"{name}.ipynb"
    declared = notebooks.declared_params(notebook)
    assert declared == notebooks.load_params(notebooks.params_file("smoke", name), notebook)
    defaults = dataclasses.asdict(CONFIGS[name]())
    assert defaults.keys() - declared.keys() == COMMAND_ONLY.get(name, set())
    shown = {key: defaults[key] for key in declared}
    assert declared == {key: list(v) if isinstance(v, tuple) else v for key, v in shown.items()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unknown: 1", "unknown parameter 'unknown'"),
        ("units: '4'", "units is '4': expected a whole number"),
        ("units: 4.5", "units is 4.5"),
        ("budget: 1e-3", "budget is '1e-3': expected a number"),
        ("sources: packages", "sources is 'packages': expected a list"),
        ("sources: [1]", "sources is"),
        ("units: [", "is not valid YAML"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(tmp_path, text, said):
    path = tmp_path / "baselines.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said.replace("[", r"\[")) as error:
        notebooks.load_params(path, notebooks.NOTEBOOKS / "baselines.ipynb")
    assert "\n" not in str(error.value)


def test_unknown_names_are_refused_with_what_there_is():
    with pytest.raises(InputError, match="unknown preset 'huge': expected one of cpu, gpu"):
        notebooks.params_file("huge", "baselines")
    with pytest.raises(InputError, match="unknown notebook 'nope': expected one of baselines"):
        notebooks.select(("nope",))


def test_a_value_out_of_range_is_refused_before_anything_runs(tmp_path, monkeypatch):
    text = notebooks.params_file("smoke", "baselines").read_text()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "baselines.yaml").write_text(text.replace("budget: 3.125", "budget: 0.5"))
    monkeypatch.setattr(notebooks, "PARAMS", tmp_path)
    with pytest.raises(InputError, match="budget is 0.5: a mean .* costs, expected 1 to 12"):
        runner.plan("odd", ())
