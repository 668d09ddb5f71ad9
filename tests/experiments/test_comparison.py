"""The comparison: its configuration, its arithmetic, and a whole run on a tiny model."""

import dataclasses
import json
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import numpy as np
import pandas as pd
import pytest

from ponderttt.data.language import load_language
from ponderttt.errors import InputError
from ponderttt.evaluation.paired import holm
from ponderttt.evaluation.statistics import two_way_interval
from ponderttt.experiments import comparison
from ponderttt.experiments.comparison import significance, tables
from ponderttt.experiments.comparison import training as trained_methods
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.files import write_files
from ponderttt.experiments.comparison.methods import CONTROLS, METHODS, SUITE, order_of, spec_of
from ponderttt.experiments.comparison.run import _spec as control_spec
from ponderttt.experiments.comparison.training import batch_order, realised_mix
from ponderttt.experiments.full_comparison_suite import SuiteConfig

EIGHT = (
    "uniform_k1", "uniform_k2", "uniform_k4", "uniform_k8", "heuristic_entropy",
    "learned_lambda001_target4", "learned_lambda005_target4", "learned_lambda001_notarget",
)  # fmt: skip


def test_the_suite_is_the_one_that_was_asked_for():
    assert SUITE == EIGHT
    assert spec_of("learned_lambda005_target4").weight == 0.05
    assert spec_of("learned_lambda005_target4").target == 4.0
    assert spec_of("learned_lambda001_notarget").target is None
    assert not set(METHODS) & set(CONTROLS)


def test_every_method_that_chooses_by_token_brings_a_random_control():
    assert order_of(("uniform_k1", "heuristic_entropy", "expected_lambda001_notarget")) == (
        "uniform_k1", "heuristic_entropy", "random_as_heuristic_entropy",
        "expected_lambda001_notarget",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ("uniform_k3",)}, "unknown method 'uniform_k3': expected some of uniform_k1"),
        ({"methods": ()}, "methods is empty"),
        ({"methods": ("uniform_k1", "uniform_k1")}, "expected each once"),
        ({"seeds": (1, 1)}, "seeds holds 1 twice: expected each once"),
        ({"seeds": (-1,)}, "expected whole numbers"),
        ({"num_epochs": 0}, "num_epochs is 0"),
        ({"source": "/nowhere"}, "unknown language source"),
        ({"test": "tokens"}, "unknown test"),
        ({"fast_weight": "cubic"}, "unknown fast_weight 'cubic'"),
        (
            {"fast_weight": "mlp", "methods": ("expected_lambda001_notarget",)},
            "exact expectation over steps is known for linear",
        ),
        ({"hidden_dim": 200}, "hidden_dim is 200: expected an even number below 128"),
    ],
)
def test_bad_input_is_refused_before_any_compute(options, said):
    with pytest.raises(InputError, match=said):
        ComparisonConfig(**options)


def test_seeds_trained_at_once_follow_the_device_that_was_chosen(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # of a machine with one
    texts = Mock(trained_methods.Texts, corpus=SimpleNamespace(tokenizer=range(300)))
    with jax.default_device(jax.devices("cpu")[0]):
        settings = trained_methods.settings_of(TINY, spec_of("uniform_k1"), texts)
    assert len(TINY.seeds) > settings.seeds_at_once == 1
    assert settings.model.vocab_size == 300


def test_a_test_over_too_few_seeds_says_which_p_it_cannot_reach():
    """Seven comparisons need p < 0.05 / 7; n seeds reach 2 / 2^n."""
    with pytest.raises(InputError, match=r"5 seeds.*below 0\.0625.*0\.0071.*expected 9 seeds"):
        ComparisonConfig(methods=EIGHT, seeds=(1, 2, 3, 4, 5), test="seeds")
    with pytest.raises(InputError, match="8 seeds"):
        ComparisonConfig(methods=EIGHT, seeds=tuple(range(8)), test="seeds")
    ComparisonConfig(methods=EIGHT, seeds=tuple(range(9)), test="seeds")
    ComparisonConfig(methods=EIGHT, seeds=(1,))  # by document any number will do


def test_the_middle_blocks_have_ttt_layers():
    assert ComparisonConfig(num_layers=6, hidden_dim=512).model().ttt_layer_indices == (2, 3, 4)
    assert ComparisonConfig(num_layers=4, hidden_dim=64).model().ttt_layer_indices == (1, 2)


def test_realised_mix():
    """Of each seed and layer alone, padding left out."""
    mask = np.array([[True, True, False]])
    steps = np.array([[[[1.0, 8.0, 4.0]], [[2.0, 2.0, 4.0]]]])  # S L M T
    assert realised_mix(steps, mask, (1, 2, 4, 8)).tolist() == [[[0.5, 0, 0, 0.5], [0, 1, 0, 0]]]


def test_every_epoch_reads_each_window_once_in_an_order_of_its_own():
    config = ComparisonConfig(num_epochs=2, max_train_batches=5, batch_size=4)
    order = batch_order(config, 20, seed=7)
    assert order.shape == (10, 4)
    assert sorted(order[:5].ravel()) == sorted(order[5:].ravel()) == list(range(20))
    assert (order[:5] != order[5:]).any()
    assert (batch_order(config, 20, seed=8) != order).any()
    assert (batch_order(config, 20, seed=7) == order).all()


def test_paired_tests_by_hand():
    """A method that is 0.1 better on every document than K4, of 3 seeds x 4 documents."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(3):
        for document in "abcd":
            base = rng.normal(5, 1)
            for name, gain in (("uniform_k4", 0.0), ("uniform_k1", 0.1), ("uniform_k2", -0.2)):
                rows.append((name, seed, document, 10, base - gain, 1.0))
    columns = ["method", "seed", "document", "tokens", "loss", "steps"]
    config = ComparisonConfig(methods=("uniform_k1", "uniform_k2", "uniform_k4"), seeds=(0, 1, 2))
    found = significance.tests(config, pd.DataFrame(rows, columns=columns)).set_index("method")
    assert list(found.index) == ["uniform_k1", "uniform_k2"]
    assert found.loc["uniform_k1", "mean"] == pytest.approx(-0.1)
    assert found.loc["uniform_k2", "mean"] == pytest.approx(0.2)
    assert found.loc["uniform_k1", "seeds_better"] == 3
    assert found.loc["uniform_k2", "seeds_better"] == 0
    assert (found["seeds"] == 3).all()
    assert (found["documents"] == 4).all()
    assert np.allclose(found["seed_p"], 0.25)  # 2 / 2^3
    assert found["wilcoxon_p"].max() < 0.001  # which takes 12 samples for independent
    assert np.allclose(found["holm_p"], holm(found["seed_p"].to_numpy()))


def test_a_run_that_is_better_on_all_texts_is_one_run():
    """Two seeds apart by 1 on a hundred texts: nothing is known of a third."""
    rng = np.random.default_rng(0)
    table = np.array([[0.5], [-0.5]]) + 0.01 * rng.normal(size=(2, 100))
    found = two_way_interval(table)
    assert found.low < -0.4
    assert found.high > 0.4
    alike = two_way_interval(0.3 + 0.01 * rng.normal(size=(2, 100)))
    assert alike.low > 0.29
    one = two_way_interval(table[:1])
    assert one.low > 0.49


def test_the_two_way_interval_covers():
    """Seeds, documents and noise drawn afresh: 95 % of intervals hold the truth, near enough."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(200):
        table = (
            0.2 + rng.normal(size=(10, 1)) + rng.normal(size=(1, 40)) + rng.normal(size=(10, 40))
        )
        found = two_way_interval(table, resamples=400)
        held.append(found.low <= 0.2 <= found.high)
    assert 0.85 < np.mean(held) < 0.99


def test_power_is_that_of_the_standard_error():
    rng = np.random.default_rng(0)
    seen = np.abs(rng.normal(0.005, 0.003, size=20_000)) > 1.96 * 0.003
    assert significance.power(0.003) == pytest.approx(seen.mean(), abs=0.01)
    assert np.isnan(significance.power(0.0))


def test_the_uninformed_loss_is_on_the_line_through_the_uniform_methods():
    rows = [("uniform_k1", 4.0), ("uniform_k4", 3.3), ("uniform_k4", 3.5), ("uniform_k8", 3.0)]
    seeds = pd.DataFrame(rows, columns=["method", "test_loss"])
    assert tables._uninformed(seeds, 2.5) == pytest.approx(3.7)
    assert tables._uninformed(seeds, 6.0) == pytest.approx(3.2)
    assert np.isnan(tables._uninformed(seeds, 9.0))


TINY = ComparisonConfig(
    methods=("uniform_k4", "heuristic_entropy", "learned_lambda001_target4"),
    seeds=(1, 2), max_train_batches=3, max_eval_batches=2, batch_size=4, max_length=16,
    hidden_dim=16, num_layers=2, vocab_size=512,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of texts in the plain layout: words in an order that can be learned."""
    path = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(60)]
    for split in ("train", "valid", "test"):
        lines = []
        for number in range(12):
            lines.append(f" = {split} {number} = ")
            lines.append(" ".join(rng.choice(words, size=60)))
        text = "\n \n".join(lines)
        (path / f"wiki.{split}.tokens").write_text(f" \n{text}\n")
    return path


@pytest.fixture(scope="module")
def result(folder, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("PONDERTTT_CACHE", str(tmp_path_factory.mktemp("cache")))
    config = dataclasses.replace(TINY, source=str(folder), vocab_size=300)
    yield comparison.run(config), config
    patch.undo()


def test_a_whole_run(result):
    found, config = result
    methods = found.tables["methods"].set_index("method")
    assert list(methods.index) == list(order_of(config.methods))
    assert methods.loc["uniform_k4", "steps"] == 4
    assert (methods["test_loss"] > 0).all()
    documents = found.tables["documents"]
    assert set(documents["document"]) <= {f"test {i}" for i in range(12)}
    per = documents.groupby("method")["tokens"].sum()
    assert per.nunique() == 1
    assert per.iloc[0] == 2 * found.scalars["test_tokens"]
    assert {"random", "uniform_k4"} == set(found.tables["tests"]["against"])
    shares = found.tables["allocation"].groupby(["method", "seed", "layer"])["share"].sum()
    assert np.allclose(shares, 1)
    assert found.tables["history"]["step"].max() == config.steps


@pytest.mark.parametrize("name", ["heuristic_entropy", "learned_lambda001_target4"])
def test_a_random_control_draws_what_its_method_took_in_every_seed_and_layer(result, name):
    _, config = result
    corpus = load_language(config.source, vocab_size=config.vocab_size)
    texts = trained_methods.load_texts(config, corpus)
    own = trained_methods.train_method(config, name, spec_of(name), texts)  # read back
    control = control_spec(config, f"random_as_{name}", {name: own}, texts)
    means = (control.mixture * np.array([1, 2, 4, 8])).sum(axis=-1)
    taken = own.validation_steps[..., texts.validation.mask].mean(axis=-1)
    assert np.allclose(means, taken)
    assert np.ptp(taken) > 0  # seeds differ, and so do their controls
    assert control.kind == "mixture" and control.shared == (name == "heuristic_entropy")


def test_a_finished_method_is_read_back(result, monkeypatch):
    found, config = result

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(trained_methods, "advance_seeds", refuse)
    again = comparison.run(config)
    pd.testing.assert_frame_equal(again.tables["documents"], found.tables["documents"])


def test_result_files_have_the_seeds_keys(result, tmp_path):
    found, config = result
    write_files(tmp_path, found)
    names = {path.name for path in tmp_path.glob("*.json")}
    assert names == {f"{m}_{s}.json" for m in order_of(config.methods) for s in config.seeds}
    content = json.loads((tmp_path / "uniform_k4_1.json").read_text())
    assert set(content) == {
        "config", "seed", "ttt_iterations", "num_params", "test_loss", "test_perplexity",
        "flops_per_token", "ttt_stats",
    }  # fmt: skip
    assert content["test_perplexity"] == pytest.approx(np.exp(content["test_loss"]))
    assert content["ttt_stats"]["avg_iterations"] == 4
    assert content["ttt_stats"]["flops_reduction"] == pytest.approx(0)
    assert content["ttt_stats"]["allocation_distribution"] == {"1": 0, "2": 0, "4": 1, "8": 0}


def test_the_page_draws_and_checks(result):
    from ponderttt.report.display import renderer
    from ponderttt.report.pages import comparison as page

    found, _ = result
    renderer.enable()
    for chart in (page.frontier, page.versus, page.training, page.allocation, page.strip):
        bundle = chart(found)._repr_mimebundle_()
        assert renderer.VEGALITE_MIME in bundle
    for text in (page.methods, page.tests, page.efficiency, page.conclusions):
        assert "|" in text(found)
    assert "shares of options add up to 1: True" in page.check(found)


def test_uniform_methods_alone_make_a_page(result):
    """Without a method that looks at the text there is no strip, and nothing to be tested."""
    from ponderttt.report.pages import comparison as page

    found, _ = result
    only = {
        name: table[table["method"] == "uniform_k4"] if "method" in table else table
        for name, table in found.tables.items()
    }
    only["tests"] = pd.DataFrame()
    alone = dataclasses.replace(found, tables=only)
    nothing = "No method here has another to be compared with."
    assert page.versus(alone).strip() == page.tests(alone).strip() == nothing
    assert page.strip(alone) == "No method here looks at the text.\n"
    assert "tests: 0 rows" in page.check(alone)
    assert "uniform" not in page.conclusions(alone)


def test_the_strip_shows_the_steps_taken_on_each_token(result):
    """The token read at position t + 1 is the one scored at t: its steps stand there."""
    found, config = result
    strip = found.tables["strip"]
    assert (strip.groupby("method")["position"].max() == config.max_length - 2).all()
    corpus = load_language(config.source, vocab_size=config.vocab_size)
    texts = trained_methods.load_texts(config, corpus)
    row = int(np.flatnonzero(texts.test.mask.all(axis=1))[0])
    words = [corpus.tokenizer.decode([int(i)]) for i in texts.test.inputs[row]]
    assert list(strip[strip["method"] == "heuristic_entropy"]["token"]) == words[1:]


def test_the_command_takes_the_seeds_flags():
    config = SuiteConfig(methods=("uniform_k1",), seeds=(42,), max_train_batches=10)
    assert config.experiment().steps == 10
    assert SuiteConfig().methods == SUITE
    left = {each.name for each in dataclasses.fields(ComparisonConfig)} - {"vocab_size"}
    assert left <= {each.name for each in dataclasses.fields(SuiteConfig)}
    with pytest.raises(InputError, match="unknown method"):
        SuiteConfig(methods=("best",))
