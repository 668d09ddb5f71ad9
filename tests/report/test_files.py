"""What the report reads of a user's: presets, notebooks, manifests, a training run's results."""

import copy
import json

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import faults

from ponderttt.errors import InputError
from ponderttt.experiments import notebook as api
from ponderttt.report.batch import gate, notebooks, pages, runner
from ponderttt.report.pages import train_policy
from ponderttt.report.pages.train_policy import PANELS

NAMES = notebooks.names()
DECLARED = {
    name: notebooks.declared_params(notebooks.NOTEBOOKS / f"{name}.ipynb") for name in NAMES
}
RESULTS = {
    "config": {"budget": 3.1},
    "actions": ["SKIP", "UPDATE_1"],
    "seeds": {"0": {name: [0.1, 0.2] for name in PANELS} | {"action_mix": [[0.5, 0.5], [1, 0]]}},
}
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6),
    st.sampled_from([10**400, 2**63, 10.0, "1e1", "tiny", "wikipedia", "", "a\0b", "\udce9"]),
    st.binary(max_size=3), st.dates(),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=2),
    max_leaves=6,
)


def one_line(error):
    said = str(error.value if hasattr(error, "value") else error)
    assert "\n" not in said and len(said) < 1200
    return said


@pytest.mark.parametrize("content", ["[1, 2]", "tiny", "null: 1", "units: 4\nunits: 5", "\tx: 1"])
def test_a_preset_file_with_a_mistake_is_one_line_that_names_it(tmp_path, monkeypatch, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "baselines.yaml").write_text(content)
    monkeypatch.setattr(notebooks, "PARAMS", tmp_path)
    with pytest.raises(InputError, match=r"mine/baselines\.yaml") as error:
        runner.plan("mine", ("baselines",))
    one_line(error)


def test_an_empty_preset_file_is_the_notebook_as_it_stands(tmp_path):
    (tmp_path / "baselines.yaml").touch()
    template = notebooks.NOTEBOOKS / "baselines.ipynb"
    assert notebooks.load_params(tmp_path / "baselines.yaml", template) == {}


def test_a_preset_file_may_be_a_folder_or_absent(tmp_path):
    template = notebooks.NOTEBOOKS / "baselines.ipynb"
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(InputError, match="cannot read") as error:
            notebooks.load_params(path, template)
        one_line(error)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["1e1", 10.0])
def test_every_notebook_refuses_a_number_of_another_type_and_says_what_to_write(name, value):
    whole = [key for key, default in DECLARED[name].items() if type(default) is int]
    assert whole
    kind = api_config(name)
    for key in whole:
        with pytest.raises(InputError, match=rf"{key} is .*whole number.*; write 10$") as error:
            api.config(kind, DECLARED[name] | {key: value})
        one_line(error)


def api_config(name):
    from importlib import import_module

    return import_module(f"ponderttt.experiments.{name}").CONFIG


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.lists
@faults.examples(full=120, sample=12)
@given(data=st.data())
def test_any_parameters_are_a_configuration_or_one_line(name, data):
    chosen = data.draw(st.lists(st.sampled_from(sorted(DECLARED[name])), min_size=1, max_size=3))
    given_ = {key: data.draw(values | st.just(DECLARED[name][key])) for key in chosen}
    try:
        made = api.config(api_config(name), DECLARED[name] | given_)
    except InputError as error:
        one_line(error)
    else:
        assert isinstance(made, api_config(name))


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.lists
@faults.examples(full=60, sample=8)
@given(
    given_=st.dictionaries(st.sampled_from(["units", "seed", "sources", "x"]) | st.text(), values)
)
def test_any_preset_file_is_parameters_or_one_line(tmp_path, name, given_):
    path = tmp_path / f"{name}.yaml"
    path.write_text(json.dumps(given_, default=str), encoding="utf-8", errors="replace")
    try:
        found = notebooks.load_params(path, notebooks.NOTEBOOKS / f"{name}.ipynb")
        notebooks.config_of(name, found)
    except InputError as error:
        one_line(error)


def test_a_name_that_papermill_was_given_and_the_notebook_has_not_is_refused():
    ran = ["", "units: int = 4", '# Parameters\nunits = 8\nunit_sise = 2\nmore = ["a"]\n']
    with pytest.raises(InputError, match="unknown parameter 'unit_sise': expected some of model"):
        api.config(api_config("baselines"), {"units": 8, "unit_sise": 2, "In": ran})
    ran[2] = "# Parameters\nunits = 8\n"
    assert api.config(api_config("baselines"), {"units": 8, "x": 1, "In": ran}).units == 8


def test_ipython_shows_an_input_error_alone():
    assert InputError("x is 1: expected 2")._render_traceback_() == [
        "InputError: x is 1: expected 2"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(seeds=[]),
        lambda r: r.update(seeds={"0": [1]}),
        lambda r: r.update(actions="SKIP"),
        lambda r: r.update(config={}),
        lambda r: r["config"].update(budget="3"),
        lambda r: r["seeds"]["0"].pop("kl"),
        lambda r: r["seeds"]["0"].update(reward=[]),
        lambda r: r["seeds"]["0"].update(cost=[1]),
        lambda r: r["seeds"]["0"].update(cost=["a", "b"]),
        lambda r: r["seeds"]["0"].update(action_mix=[[0.5], [0.5]]),
        lambda r: r["seeds"]["0"].update(action_mix=[1, 2]),
        lambda r: r["seeds"]["0"].update(entropy=[10**400, 1]),
    ],
)
def test_results_that_cannot_be_drawn_are_one_line(tmp_path, change):
    results = copy.deepcopy(RESULTS)
    change(results)
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match=r"no result of a training run: .*; expected the") as error:
        train_policy.save(tmp_path / "results.json", tmp_path / "figures")
    one_line(error)
    assert not (tmp_path / "figures").exists()


@pytest.mark.faults
@faults.examples(full=150, sample=25)
@given(data=st.data())
def test_any_results_are_read_whole_or_refused_in_one_line(tmp_path, data):
    results = copy.deepcopy(RESULTS)
    place = data.draw(
        st.sampled_from([results, results["config"], results["seeds"], results["seeds"]["0"]])
    )
    place[data.draw(st.sampled_from(sorted(place)) | st.text(max_size=3))] = data.draw(values)
    (tmp_path / "r.json").write_text(json.dumps(results, default=str), errors="replace")
    try:
        found = train_policy._read(tmp_path / "r.json")
    except InputError as error:
        one_line(error)
    else:
        train_policy.history(found), train_policy.actions(found)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "{", '{"cells": 3, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
     '{"cells": [{"cell_type": "code"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
     '{"cells": [], "metadata": {}, "nbformat": 99}', '{"worksheets": 1, "nbformat": 2}'],
)  # fmt: skip
def test_what_is_no_notebook_is_one_line(tmp_path, content):
    path = tmp_path / "odd.ipynb"
    path.write_text(content)
    with pytest.raises(InputError, match=r"odd\.ipynb is no notebook") as error:
        notebooks.declared_params(path)
    one_line(error)
    template = notebooks.NOTEBOOKS / "baselines.ipynb"
    [problem] = gate.problems(path, template, {}, tmp_path)
    assert problem.startswith("cannot be read: ") and "\n" not in problem


@pytest.mark.parametrize(
    "source", ["units: int = ", "units = len([])", "units = 1 +", "x = (" * 300]
)
def test_parameters_that_are_no_literals_are_one_line(tmp_path, source):
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "odd.ipynb")
    with pytest.raises(InputError, match="cell tagged parameters cannot be used") as error:
        notebooks.declared_params(tmp_path / "odd.ipynb")
    one_line(error)


PAGE = dict(name="a", preset="smoke", status="pass", seconds=1.0, inputs="", sha256="", record="",
            problems=[], rendered="")  # fmt: skip


@pytest.mark.faults
@faults.examples(full=100, sample=20)
@given(data=st.data())
def test_a_manifest_that_is_none_is_as_if_absent(tmp_path, data):
    path = tmp_path / "results" / "a" / pages.MANIFEST
    path.parent.mkdir(parents=True, exist_ok=True)
    content = data.draw(
        st.binary(max_size=60)
        | st.dictionaries(st.sampled_from(sorted(PAGE)), values, max_size=2).map(
            lambda change: json.dumps(PAGE | change, default=str).encode(errors="replace")
        )
        | values.map(lambda value: json.dumps(value, default=str).encode(errors="replace"))
    )
    path.write_bytes(content)
    page = pages.read(tmp_path, "a")
    assert page is None or (page.seconds + 1.0 != "" and "".join(page.problems) is not None)
