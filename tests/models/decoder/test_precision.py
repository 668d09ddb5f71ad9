import itertools
import json

import pytest

from ponderttt.allocation.stream import AllocationConfig
from ponderttt.errors import InputError
from ponderttt.experiments.baselines import BaselinesConfig
from ponderttt.experiments.convergence import ConvergenceConfig
from ponderttt.models.decoder import precision
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.precision import fastest  # before the tests' fixture replaces it

CONFIGS = (AllocationConfig, BaselinesConfig, ConvergenceConfig)
NARROW, WIDE = {"float32": 2.0, "bfloat16": 1.0}, {"float32": 1.0, "bfloat16": 1.5}


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A cache of its own, `fastest` as it is, and measurements as the test hands them out."""
    monkeypatch.setenv("PONDERTTT_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "fastest", fastest)
    handed = []
    monkeypatch.setattr(precision, "measure", handed.pop)
    return handed


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(NARROW, "bfloat16"), (WIDE, "float32"), (dict.fromkeys(NARROW, 1.0), "bfloat16")],
)
def test_auto_is_float32_unless_bfloat16_is_at_least_as_fast(measured, seconds, expected):
    measured.append(seconds)
    lm = TransformerLM.from_pretrained("tiny", dtype="auto")
    named = TransformerLM.from_pretrained("tiny", dtype=expected)
    assert lm.dtype == named.dtype == str(lm.head.dtype) == expected
    assert lm.fingerprint == named.fingerprint


def test_a_machine_is_measured_once(measured, monkeypatch, tmp_path):
    measured += [WIDE, NARROW]  # handed out from the end
    assert [precision.resolve("auto") for _ in range(3)] == ["bfloat16"] * 3
    assert len(measured) == 1
    (kept,) = tmp_path.glob("precision/*.json")
    assert json.loads(kept.read_text())["machine"] == precision.machine_name()
    monkeypatch.setattr(precision.jax, "__version__", "99")
    assert precision.resolve("auto") == "float32" and not measured
    assert len(list(tmp_path.glob("precision/*.json"))) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"seconds": {"float32": 1}}', "\x00"])
def test_a_damaged_measurement_is_made_anew(measured, tmp_path, text):
    measured += [NARROW, WIDE]
    assert precision.resolve("auto") == "float32"
    (kept,) = tmp_path.glob("precision/*.json")
    kept.write_text(text)
    assert precision.resolve("auto") == "bfloat16"


def test_each_type_counts_by_the_least_of_its_times():
    # Readings of the clock: float32 takes 3, 1, 2 and bfloat16 5, 7, 4, in turns.
    ticks = itertools.accumulate(x for pair in zip((3, 5, 1, 7, 2, 4), itertools.repeat(10))
                                 for x in pair)  # fmt: skip
    ticks = iter([0, *ticks])
    assert precision.measure(clock=lambda: float(next(ticks))) == {"float32": 1, "bfloat16": 4}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_takes_auto_and_both_types_only(config):
    assert config().dtype == "auto"
    for dtype in ("auto", "float32", "bfloat16"):
        assert config(dtype=dtype).dtype == dtype
    for dtype in ("float16", "", None, "Auto"):
        with pytest.raises(InputError, match="dtype.*expected .*auto, float32 or bfloat16"):
            config(dtype=dtype)
