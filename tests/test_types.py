"""Documents: what stands before each token, where files begin, units of another size."""

import jax.numpy as jnp
import numpy as np
import pytest

from ponderttt.errors import InputError
from ponderttt.types import Documents

BOS = 99
STARTS = np.array(
    [
        [True, False, True, True, False, False],
        [True, False, False, False, False, False],
        [True, True, False, False, True, False],
    ]
)


@pytest.fixture(params=[np.asarray, jnp.asarray], ids=["numpy", "jax"])
def documents(request):
    """Three documents of six units of four tokens, which files begin as `STARTS` says."""
    tokens = np.arange(72, dtype=np.int32).reshape(3, 6, 4)
    mask = np.random.default_rng(0).random(tokens.shape) < 0.8
    as_array = request.param
    return Documents(as_array(tokens), as_array(mask), np.int32(BOS), as_array(STARTS))


def spelled_out(tokens, starts) -> np.ndarray:
    """The token before each token, one by one."""
    expected = np.zeros_like(np.asarray(tokens))
    for b, n, u in np.ndindex(*expected.shape):
        if u:
            expected[b, n, u] = tokens[b, n, u - 1]
        else:
            expected[b, n, u] = BOS if starts[b, n] else tokens[b, n - 1, -1]
    return expected


def test_bos_is_before_the_first_token_of_each_file(documents):
    inputs = documents.inputs
    assert isinstance(inputs, type(documents.tokens)) and inputs.dtype == np.int32
    np.testing.assert_array_equal(inputs, spelled_out(documents.tokens, STARTS))
    assert (np.asarray(inputs) == BOS).sum() == STARTS.sum()


def test_a_document_without_starts_is_one_file(documents):
    first = np.zeros_like(STARTS)
    first[:, 0] = True
    one = documents._replace(starts=None)
    np.testing.assert_array_equal(one.inputs, spelled_out(one.tokens, first))
    np.testing.assert_array_equal(one.inputs, documents._replace(starts=first).inputs)
    np.testing.assert_array_equal(one.places, [range(6)] * 3)
    np.testing.assert_array_equal(one.places, documents._replace(starts=first).places)
    assert one.select(np.array([1])).starts is None and one.regroup(2).starts is None


def test_places_begin_anew_with_each_file(documents):
    expected = [[0, 1, 0, 0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 0, 1]]
    np.testing.assert_array_equal(documents.places, expected)


@pytest.mark.parametrize("unit", [4, 2, 1])
def test_regrouped_documents_are_the_same_text(documents, unit):
    finer = documents.regroup(unit)
    assert finer.tokens.shape == finer.mask.shape == (3, 24 // unit, unit) and finer.bos == BOS
    for name in ("tokens", "mask", "inputs"):
        np.testing.assert_array_equal(
            getattr(finer, name).reshape(3, 24), getattr(documents, name).reshape(3, 24)
        )
    begins = np.zeros((3, 6, 4), bool)
    begins[..., 0] = STARTS
    np.testing.assert_array_equal(finer.starts, begins.reshape(3, -1)[:, ::unit])
    # So many tokens of its file are before a unit, however small the units are.
    np.testing.assert_array_equal(finer.places[:, :: 4 // unit] * unit, documents.places * 4)


@pytest.mark.parametrize("unit", [3, 8, 0, -1])
def test_units_that_do_not_divide_are_refused(documents, unit):
    with pytest.raises(InputError, match=f"a unit of {unit} tokens does not divide units of 4"):
        documents.regroup(unit)


@pytest.mark.parametrize("index", [np.array([2, 0]), slice(1, None), np.array([1])])
def test_selected_documents_keep_their_starts(documents, index):
    chosen = documents.select(index)
    np.testing.assert_array_equal(chosen.starts, STARTS[index])
    np.testing.assert_array_equal(chosen.tokens, documents.tokens[index])
    np.testing.assert_array_equal(chosen.mask, documents.mask[index])
    np.testing.assert_array_equal(chosen.inputs, documents.inputs[index])
    np.testing.assert_array_equal(chosen.places, documents.places[index])
