"""Rules by name, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt import cache
from ponderttt.errors import InputError
from ponderttt.inner import adapt
from ponderttt.inner.update_rules import (
    RULES,
    SGD,
    AdamW,
    NewtonSchulz,
    NormalizedGradient,
    OnlineRMS,
    SumOfSquares,
    UpdateRule,
    make_rule,
)
from ponderttt.models.adapters.next_token import NextToken

FAST = {"w": jnp.ones((3, 4))}
STATISTICS = jax.tree.map(jnp.ones_like, FAST)


def options_of(name):
    return {"statistics": STATISTICS} if RULES[name].statistics else {}


@pytest.mark.parametrize("name", RULES)
def test_every_name_makes_a_rule_that_steps(name):
    rule = make_rule(name, 0.1, **options_of(name))
    assert isinstance(rule, UpdateRule) and float(rule.rate) == pytest.approx(0.1)
    fast, _ = rule.step(FAST, FAST, rule.init(FAST))
    assert (fast["w"] < FAST["w"]).all() and np.isfinite(fast["w"]).all()


def test_a_name_is_its_family_and_options_are_its_fields():
    kinds = {name: type(make_rule(name, 1.0, **options_of(name))) for name in RULES}
    assert kinds == {
        "sgd": SGD, "normalized": NormalizedGradient, "rms": OnlineRMS, "rms_sum": SumOfSquares,
        "rms_sum_sqrt": SumOfSquares, "adamw": AdamW, "newton_schulz": NewtonSchulz,
    }  # fmt: skip
    assert make_rule("rms", 1.0).decay == 0.9
    assert make_rule("sgd", 1.0, clip=0.5, decay=None).clip == 0.5
    plain, root = (make_rule(f"rms_sum{x}", 1.0, statistics=STATISTICS) for x in ("", "_sqrt"))
    assert (plain.root, root.root) == (False, True)
    assert make_rule("newton_schulz", 1.0, iterations=3).iterations == 3
    per_head = make_rule("sgd", jnp.asarray([0.1, 0.2])).rate
    assert per_head.shape == (2,) and per_head.dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "rate", "options", "message"),
    [
        ("adam", 1.0, {}, "unknown rule 'adam': expected one of sgd, normalized, rms"),
        ("sgd", 0.0, {}, "rate is 0.0: expected a finite number, more than 0"),
        ("sgd", -1.0, {}, "rate is -1.0"),
        ("sgd", np.nan, {}, "rate is nan"),
        ("adamw", np.inf, {}, "rate is inf"),
        ("adamw", 1e39, {}, "rate is 1e.39"),
        ("sgd", "1e-3", {}, "rate is '1e-3'"),
        ("sgd", None, {}, "rate is None"),
        ("sgd", [0.1, -0.1], {}, "rate is .*more than 0"),
        ("sgd", 1.0, {"clip": 0.0}, "clip is 0.0: expected a finite number, more than 0"),
        ("sgd", 1.0, {"decay": -0.1}, "decay is -0.1: expected a finite number, 0 or more"),
        ("rms", 1.0, {"decay": 1.0}, "decay is 1.0: expected a finite number, .* less than 1"),
        ("adamw", 1.0, {"beta2": 1.5}, "beta2 is 1.5"),
        ("newton_schulz", 1.0, {"iterations": 0}, "iterations is 0: expected a whole number of 1"),
        ("newton_schulz", 1.0, {"iterations": 2.5}, "iterations is 2.5"),
        ("newton_schulz", 1.0, {"clip": 1.0}, "takes no option 'clip': expected iterations"),
        ("sgd", 1.0, {"statistics": STATISTICS}, "takes no option 'statistics'"),
        ("rms_sum", 1.0, {}, "rule 'rms_sum' needs statistics: gather them"),
    ],
)
def test_a_bad_rule_is_refused(name, rate, options, message):
    with pytest.raises(InputError, match=message):
        make_rule(name, rate, **options)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        (None, "no statistics: gather them on training documents"),
        (
            {"w": jnp.ones((4, 3))},
            r"statistics of shapes {'w': \(4, 3\)}: expected {'w': \(3, 4\)}",
        ),
        ({"a": jnp.ones((3, 4))}, "statistics of shapes {'a'"),
        ({"w": jnp.ones((3, 4)), "b": jnp.ones(4)}, "statistics of shapes"),
        (jnp.ones((3, 4)), "statistics of shapes"),
    ],
)
def test_statistics_that_do_not_fit_are_refused_before_anything_runs(statistics, message):
    with pytest.raises(InputError, match=message):
        adapt(
            FAST, None, jnp.asarray(1), rule=SumOfSquares(0.1, statistics), max_steps=1,
            gradient=lambda *_: pytest.fail("the gradient was asked for"),
        )  # fmt: skip


def test_a_fingerprint_tells_rules_and_their_code_apart(monkeypatch):
    rules = [SGD(1.0), SGD(2.0), AdamW(1.0), NormalizedGradient(1.0), NewtonSchulz(1.0),
             NewtonSchulz(1.0, iterations=4), SumOfSquares(1.0, STATISTICS)]  # fmt: skip
    assert len({cache.fingerprint(NextToken(rule)) for rule in rules}) == len(rules)
    before = [cache.fingerprint(NextToken(rule)) for rule in (AdamW(1.0), SGD(1.0))]
    true = cache.code_fingerprint
    changed = "ponderttt.inner.update_rules.adamw"
    monkeypatch.setattr(cache, "code_fingerprint", lambda m: "other" if m == changed else true(m))
    after = [cache.fingerprint(NextToken(rule)) for rule in (AdamW(1.0), SGD(1.0))]
    assert after[0] != before[0] and after[1] == before[1]
