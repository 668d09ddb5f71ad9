"""What notebooks call: a configuration from their variables, a result computed or stored."""

import dataclasses
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ponderttt.errors import InputError
from ponderttt.experiments import notebook, ppo_policy
from ponderttt.experiments.ppo_policy import tables
from ponderttt.report.batch import notebooks
from ponderttt.report.pages.ppo_policy.charts import POINTS
from ponderttt.result import Result

RESULTS = notebooks.ROOT / "book" / "results"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Two parameters."""

    units: int = 4
    names: tuple[str, ...] = ("a",)


def run(config):
    table = pd.DataFrame({"x": range(config.units)})
    return Result("sizes", dataclasses.asdict(config), {"rows": table})


EXPERIMENT = SimpleNamespace(
    __name__="somewhere.sizes", CONFIG=Sizes, MEANINGS={"rows": "a number"}, run=run
)


def test_a_configuration_takes_the_variables_of_its_fields_and_no_others():
    assert notebook.config(Sizes, {"units": 8, "other": 1}) == Sizes(units=8)
    assert notebook.config(Sizes, globals()) == Sizes()


def test_a_result_is_computed_with_its_meanings(monkeypatch):
    monkeypatch.delenv(notebook.STORED, raising=False)
    result = notebook.run(EXPERIMENT, Sizes(units=3))
    assert len(result.tables["rows"]) == 3 and result.meanings == EXPERIMENT.MEANINGS


def test_a_stored_result_stands_in_for_the_call_where_the_parameters_are_the_same(
    tmp_path, monkeypatch
):
    run(Sizes(units=3)).save(tmp_path / "sizes")
    monkeypatch.setenv(notebook.STORED, str(tmp_path))
    monkeypatch.setattr(EXPERIMENT, "run", lambda config: pytest.fail("computed"))
    result = notebook.run(EXPERIMENT, Sizes(units=3))
    assert len(result.tables["rows"]) == 3 and "commit" in result.meta
    with pytest.raises(InputError, match=r"other parameters \(names, units\).*notebook to compute"):
        notebook.run(EXPERIMENT, Sizes(units=4, names=("b",)))


@pytest.mark.parametrize("folder", sorted(RESULTS.iterdir()), ids=lambda folder: folder.name)
def test_every_table_of_a_published_record_has_a_meaning(folder):
    experiment = import_module(f"ponderttt.experiments.{folder.name}")
    assert Result.verify(folder)["tables"].keys() <= experiment.MEANINGS.keys()


def history(iterations, seeds=2):
    return pd.DataFrame(
        [
            {"stream": "mixed", "budget": 2.0, "form": "positional", "seed": s,
             "iteration": i + 1, "violation": float((7 * i + s) % 5)}
            for s in range(seeds) for i in range(iterations)
        ]
    )  # fmt: skip


def test_a_thinned_history_keeps_the_iterations_that_are_drawn():
    for last in (*range(1, 400), 1000, 1999, 4000):
        kept = tables.thinned(pd.DataFrame({"iteration": range(1, last + 1)}))["iteration"]
        drawn = np.unique(np.linspace(1, last, POINTS).round().astype(int))
        assert len(kept) <= tables.KEPT and set(drawn) <= set(kept), last
        assert (kept.iloc[0], kept.iloc[-1]) == (1, last)


def test_how_a_violation_varies_is_of_all_iterations_whatever_is_kept():
    full = history(1000)
    late = full[full["iteration"] > 500].groupby("seed")["violation"].std(ddof=0)
    found = tables.spread(full).set_index("seed")["deviation"]
    pd.testing.assert_series_equal(found, late, check_names=False)


def test_the_published_history_is_small_and_deriving_changes_it_no_more():
    folder = RESULTS / "ppo_policy"
    [file] = folder.glob("history-*.parquet")
    assert file.stat().st_size < 500_000
    result = Result.load(folder)
    again = ppo_policy.derive(result)
    for name in ("history", "spread"):
        pd.testing.assert_frame_equal(again.tables[name], result.tables[name])
