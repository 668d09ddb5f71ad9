"""Gains by position: sums against a plain loop, thirds, and means in which sources weigh alike."""

import numpy as np
import pandas as pd
import pytest

from ponderttt.evaluation.by_position import (
    BINS,
    THIRDS,
    binned,
    by_bin,
    by_document,
    over_documents,
)
from ponderttt.evaluation.statistics import cluster_interval

KEYS = ["source", "repository"]


def made(length: int, seed: int = 0, padded: float = 0.2):
    """Losses, the base's losses, and which tokens are real."""
    draw = np.random.default_rng(seed)
    losses, base = draw.normal(5, 1, (2, length)).astype(np.float32)
    return losses, base, draw.random(length) >= padded


def table(lengths: dict[tuple[str, str], int]) -> pd.DataFrame:
    """Bins of documents of so many tokens each."""
    return pd.concat(
        [
            binned(*made(length, seed)).assign(source=source, repository=name)
            for seed, ((source, name), length) in enumerate(lengths.items())
        ],
        ignore_index=True,
    )


# --- sums


@pytest.mark.parametrize("length", [5, 11, 12, 13, 60, 97])
def test_sums_are_those_of_a_plain_loop(length):
    losses, base, mask = made(length)
    found = binned(losses, base, mask)
    expected = np.zeros((BINS, 3))
    for t in range(length):
        if mask[t]:
            expected[t * BINS // length] += 1, losses[t], float(base[t]) - losses[t]
    assert found["bin"].tolist() == list(range(BINS))
    assert found["tokens"].tolist() == expected[:, 0].astype(int).tolist()
    np.testing.assert_allclose(found[["loss", "gain"]], expected[:, 1:], rtol=1e-5, atol=1e-5)
    assert found["tokens"].sum() == mask.sum()
    assert len(found) == BINS  # also where there are fewer tokens


def test_parts_are_of_equal_length_where_they_can_be():
    mask = np.ones(97, bool)
    counts = binned(np.zeros(97), np.zeros(97), mask)["tokens"]
    assert counts.sum() == 97 and counts.max() - counts.min() == 1


def test_padding_is_in_no_sum_whatever_its_losses_are():
    losses, base, mask = made(60)
    clean = binned(losses, base, mask)
    losses[~mask], base[~mask] = np.inf, np.nan
    pd.testing.assert_frame_equal(binned(losses, base, mask), clean)
    none = binned(losses, base, np.zeros(60, bool))
    assert not none[["tokens", "loss", "gain"]].to_numpy().any()


def test_a_loss_that_is_not_finite_stays_in_its_part():
    losses, base, mask = made(60, padded=0)
    losses[[17, 43]] = np.nan, np.inf
    found = binned(losses, base, mask)
    assert np.isnan(found["gain"][17 * BINS // 60]) and found["gain"][43 * BINS // 60] == -np.inf
    assert np.isfinite(found["gain"]).sum() == BINS - 2


# --- documents


def test_a_documents_thirds_are_those_of_its_tokens():
    losses, base, mask = made(120)
    found = by_document(binned(losses, base, mask).assign(source="go", repository="a"), KEYS).iloc[
        0
    ]
    assert found["tokens"] == mask.sum()
    assert found["loss"] == pytest.approx(losses[mask].mean(), rel=1e-5)
    assert found["gain"] == pytest.approx((base - losses)[mask].mean(), rel=1e-5)
    for i, name in enumerate(THIRDS):
        part = slice(40 * i, 40 * (i + 1))
        expected = (base - losses)[part][mask[part]].mean()
        assert found[f"gain_{name}"] == pytest.approx(expected, rel=1e-4)


def test_documents_are_told_apart_and_keep_their_order():
    lengths = {("go", "b"): 50, ("packages", "b"): 70, ("go", "a"): 13}
    bins = table(lengths)
    found = by_document(bins, KEYS)
    assert list(found[KEYS].itertuples(index=False, name=None)) == list(lengths)
    for seed, (keys, length) in enumerate(lengths.items()):
        alone = binned(*made(length, seed)).assign(source=keys[0], repository=keys[1])
        row = found[seed : seed + 1].reset_index(drop=True)
        pd.testing.assert_frame_equal(row, by_document(alone, KEYS))


def test_a_third_without_tokens_has_no_gain_and_the_document_has():
    losses, base, mask = made(60, padded=0)
    mask[40:] = False
    found = by_document(binned(losses, base, mask).assign(source="go", repository="a"), KEYS)
    assert np.isnan(found["gain_last"][0])
    assert found[["gain", "gain_first", "gain_second"]].notna().all(axis=None)


# --- means over documents

GAINS = pd.DataFrame(
    {
        "source": ["go", "packages", "packages", "packages"],
        "repository": ["a", "b", "c", "d"],
        "shown": "chosen",
        "gain": [1.0, 0.1, 0.2, 0.6],
    }
)


def test_all_weighs_every_source_alike():
    found = over_documents(GAINS, ["shown"], "gain", seed=0).set_index("source")
    assert found.index.tolist() == ["go", "packages", "all"] and "mean" not in found
    np.testing.assert_allclose(found["gain"], [1.0, 0.3, 0.65])
    assert found["n"].tolist() == [1, 3, 4]
    expected = cluster_interval([np.array([0.1, 0.2, 0.6])], seed=0)
    assert tuple(found.loc["packages", ["low", "high"]]) == expected[1:3]
    assert found.loc["go", ["low", "high"]].isna().all()


def test_conditions_have_rows_of_their_own():
    other = GAINS.assign(shown="plain", gain=-GAINS["gain"])
    found = over_documents(pd.concat([GAINS, other]), ["shown"], "gain", seed=0)
    wide = found.pivot(index="source", columns="shown", values="gain")
    np.testing.assert_allclose(wide["plain"], -wide["chosen"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_documents_that_are_not_finite_leave_nothing(value):
    broken = GAINS.assign(gain=GAINS["gain"].where(GAINS["repository"] != "c", value))
    found = over_documents(broken, ["shown"], "gain", seed=0).set_index("source")
    assert found.loc[["packages", "all"], ["gain", "low", "high"]].isna().all(axis=None)
    assert found.loc["go", "gain"] == 1 and found.loc["all", "n"] == 4


# --- means by position


def test_every_part_is_a_mean_over_documents_in_which_sources_weigh_alike():
    bins = table({("go", "a"): 48, ("packages", "b"): 60, ("packages", "c"): 97})
    found = by_bin(bins.assign(shown="chosen"), ["shown"], seed=0).set_index("bin")
    for i in range(BINS):
        part = bins[bins["bin"] == i].set_index("repository")
        gain = part["gain"] / part["tokens"]
        expected = (gain["a"] + (gain["b"] + gain["c"]) / 2) / 2
        assert found["gain"][i] == pytest.approx(expected) and found["n"][i] == 3


def test_a_part_without_tokens_is_left_out_and_one_that_diverged_is_not():
    bins = table({("go", "a"): 60, ("go", "b"): 60}).assign(shown="chosen")
    empty, lost = (bins["repository"] == "b") & (bins["bin"] == 11), bins["bin"] == 5
    bins.loc[empty, ["tokens", "loss", "gain"]] = 0
    bins.loc[lost & (bins["repository"] == "a"), "gain"] = np.nan
    bins.loc[lost & (bins["repository"] == "b"), "gain"] = 1.0
    bins.loc[(bins["repository"] == "a") & (bins["bin"] == 6), "gain"] = -np.inf
    found = by_bin(bins, ["shown"], seed=0).set_index("bin")
    assert found["n"].tolist() == [2] * 11 + [1]
    assert found.index[found["gain"].isna()].tolist() == [5, 6]
    nowhere = bins[~empty | (bins["repository"] == "a")]
    pd.testing.assert_frame_equal(by_bin(nowhere, ["shown"], seed=0).set_index("bin"), found)
