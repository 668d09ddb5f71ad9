import math

import pytest
from support.synthetic import baselines_result

from ponderttt.report.display import claims
from ponderttt.report.display.claims import ABOVE_ZERO, NOT_NEGATIVE, Claim, Evidence
from ponderttt.report.pages.baselines import claims as baselines_claims
from ponderttt.report.pages.baselines import conclusions, losses

NAN = math.nan


@pytest.mark.parametrize(
    ("test", "evidence", "verdict"),
    [
        (ABOVE_ZERO, Evidence(0.2, 0.1, 0.3, 9), claims.SUPPORTED),
        (ABOVE_ZERO, Evidence(-0.2, -0.3, -0.1, 9), claims.NOT_SUPPORTED),
        (ABOVE_ZERO, Evidence(0.1, -0.1, 0.3, 9), claims.INCONCLUSIVE),
        (ABOVE_ZERO, Evidence(0.1, 0.0, 0.3, 9), claims.INCONCLUSIVE),
        (ABOVE_ZERO, Evidence(0.2, NAN, NAN, 1), claims.INCONCLUSIVE),
        (NOT_NEGATIVE, Evidence(0.0, NAN, NAN, 4), claims.SUPPORTED),
        (NOT_NEGATIVE, Evidence(-0.01, NAN, NAN, 4), claims.NOT_SUPPORTED),
    ],
)
def test_the_evidence_decides(test, evidence, verdict):
    assert Claim("sentence", test, evidence).verdict == verdict


def verdicts(result):
    return {claim.sentence: claim.verdict for claim in baselines_claims(result)}


def test_claims_on_a_result_that_gains():
    found = verdicts(baselines_result())
    assert found["next-token: UPDATE_4 has lower test loss than SKIP on documents of go."] == (
        claims.SUPPORTED
    )
    assert found["next-token: UPDATE_4 gains more than UPDATE_2."] == claims.SUPPORTED
    window = "next-token: UPDATE_4 gains more than a window of two units gains over one of one."
    assert found[window] == claims.NOT_SUPPORTED


def test_the_sentences_stay_and_the_verdicts_turn_with_the_result():
    good, bad = baselines_result(), baselines_result()
    for name in ("gains", "documents"):
        table = bad.tables[name]
        table["gain"] *= -1
    gains = bad.tables["gains"]
    gains[["low", "high"]] = -gains[["high", "low"]].to_numpy()
    bad.tables["uniform"].loc[0, "nll"] = 1.0
    assert verdicts(good).keys() == verdicts(bad).keys()
    worse = verdicts(bad)
    assert worse["next-token: UPDATE_4 gains more than UPDATE_2."] == claims.NOT_SUPPORTED
    assert list(worse.values())[-1] == claims.NOT_SUPPORTED
    assert claims.SUPPORTED not in {
        verdict for sentence, verdict in worse.items() if "lower test loss than SKIP" in sentence
    }


def test_one_document_of_each_source_is_inconclusive():
    result = baselines_result(documents=1)
    found = [v for s, v in verdicts(result).items() if "gains more" in s]
    assert set(found) == {claims.INCONCLUSIVE}


def test_tables_are_markdown_that_names_every_method_once_per_objective():
    result = baselines_result()
    text = losses(result)._repr_markdown_()
    assert text.count("| base x2 |") == 2
    assert text.count("| UPDATE_4 |") == 4
    assert conclusions(result).count("*supported*") > 5


def test_an_effect_without_interval_is_shown_alone_and_zero_has_one_sign():
    assert claims.signed_interval(0.5, NAN, NAN, digits=1) == "+0.5"
    assert claims.signed_interval(-0.001, -0.01, 0.1, digits=1) == "+0.0 [0.0, 0.1]"
