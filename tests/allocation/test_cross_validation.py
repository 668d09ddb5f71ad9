"""Cross-validation: against leaving each document out by hand, and where the answer is known."""

import numpy as np
import pytest

from ponderttt.allocation.cross_validation import LONE_RIDGE, RIDGES, choose_ridge, folds
from ponderttt.errors import InputError
from ponderttt.policies import ThresholdBandit

DOCUMENTS, ROWS, F, A = 12, 8, 6, 4


def made(noise, seed=0, offset=0.0):
    """Gains linear in the features, with noise, and an offset that each document has of its own."""
    rng = np.random.default_rng(seed)
    documents = np.repeat(np.arange(DOCUMENTS), ROWS)
    x = rng.normal(size=(len(documents), F))
    own = rng.normal(size=(DOCUMENTS, F))
    x = x + offset * own[documents]
    y = x @ rng.normal(size=(F, A)) / 10 + noise * rng.normal(size=(len(x), A))
    return x, y + offset * rng.normal(size=(DOCUMENTS, A))[documents], documents


def test_errors_are_those_of_fits_without_the_document():
    x, y, documents = made(0.3)
    found = choose_ridge(x, y, documents)
    for row in found.table.itertuples():
        errors = []
        for document in range(DOCUMENTS):
            out = documents == document
            fit = ThresholdBandit.fit(x[~out], y[~out], ridge=row.ridge)
            weights = np.asarray(fit.weights, float)
            errors.append(np.mean((y[out] - x[out] @ weights[:-1] - weights[-1]) ** 2))
        assert row.error == pytest.approx(np.mean(errors), rel=1e-4)
    assert found.ridge == found.table.loc[found.table["error"].idxmin(), "ridge"]
    assert found.table["chosen"].sum() == 1


def test_noise_is_shrunk_and_what_is_clear_is_not():
    assert choose_ridge(*made(1e-3)).ridge == RIDGES[0]
    x, y, documents = made(0.0, seed=1)
    noise = np.random.default_rng(2).normal(size=y.shape)
    assert choose_ridge(x, noise, documents).ridge == RIDGES[-1]


def test_whole_documents_are_left_out():
    """Where documents differ by an offset that features give away, single units would deceive."""
    x, y, documents = made(0.1, seed=3, offset=1.0)
    apart = choose_ridge(x, y, documents).ridge
    single = choose_ridge(x, y, np.arange(len(x))).ridge
    assert apart > single


def test_what_cannot_be_chosen_among():
    x, y, documents = made(0.1)
    lone = choose_ridge(x, y, np.zeros_like(documents))
    assert lone.ridge == LONE_RIDGE and lone.table.empty
    with pytest.raises(InputError, match="all above 0"):
        choose_ridge(x, y, documents, (0.0, 1.0))


def test_folds_share_every_source():
    sources = ["go", "zig", "c", "go", "zig", "c", "go", "go"]
    fold = folds(sources)
    for name in set(sources):
        counts = np.bincount(fold[np.asarray(sources) == name], minlength=2)
        assert abs(counts[0] - counts[1]) <= 1
