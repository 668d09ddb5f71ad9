"""Intervals by document: they cover, and copies of a document's units do not narrow them."""

import numpy as np

from ponderttt.evaluation.statistics import cluster_interval


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        groups = [rng.normal(1.0, 1.0, 40), rng.normal(3.0, 2.0, 30)]
        interval = cluster_interval(groups, resamples=400, seed=seed)
        hits += interval.low <= 2.0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_groups_weigh_the_same_and_a_seed_repeats():
    groups = [np.zeros(50), np.ones(5)]
    interval = cluster_interval(groups)
    assert interval == cluster_interval(groups)
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.5, 0.5, 0.5, 55)


def test_one_document_has_no_interval():
    interval = cluster_interval([np.asarray([0.3])])
    assert interval.mean == 0.3
    assert np.isnan([interval.low, interval.high]).all()
