"""Saved models in every layout and spelling: the logits of transformers, or one line.

The base models, their logits and how far transformers is from them on each variant are golden
(`golden/make_matrix_golden.py`); folders are made here (`support.checkpoint_variants`).
"""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.checkpoint_variants import variants

from ponderttt.errors import InputError
from ponderttt.models.decoder.lm import TransformerLM

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "matrix.npz")
BASES = {
    name.removesuffix("/config"): json.loads(str(GOLDEN[name]))
    for name in GOLDEN.files
    if name.endswith("/config")
}
TENSORS = {
    base: {
        name.removeprefix(f"{base}/tensor/"): (GOLDEN[name] / 64).astype(np.float32)
        for name in GOLDEN.files
        if name.startswith(f"{base}/tensor/")
    }
    for base in BASES
}
DISTANCES = dict(zip(GOLDEN["labels"].tolist(), GOLDEN["distances"].tolist(), strict=True))
VARIANTS = {variant.label: variant for variant in variants(BASES)}
LOADED = [label for label, variant in VARIANTS.items() if variant.refused is None]
REFUSED = [label for label, variant in VARIANTS.items() if variant.refused is not None]


@pytest.fixture
def make_folder(tmp_path):
    def write(label):
        base = VARIANTS[label].base
        VARIANTS[label].write(tmp_path, dict(BASES[base]), dict(TENSORS[base]))
        return tmp_path

    return write


def distance(folder, base):
    lm = TransformerLM.from_pretrained(folder)
    # One program for all that have a shape in common.
    lm = dataclasses.replace(lm, name="any", tokenizer_name="any", fingerprint="any")
    logits = GOLDEN[f"{base}/logits"]
    return np.abs(np.asarray(lm.logits(GOLDEN["tokens"])) - logits).max() / np.abs(logits).max()


def test_the_matrix_is_the_one_that_transformers_has_read():
    assert list(VARIANTS) == list(DISTANCES)
    assert len(LOADED) > 150 and len(REFUSED) > 150


@pytest.mark.parametrize("label", LOADED)
def test_logits_are_those_of_transformers(label, make_folder):
    variant = VARIANTS[label]
    assert np.isnan(DISTANCES[label]) if variant.beyond else DISTANCES[label] < 1e-5
    assert distance(make_folder(label), variant.base) < 1e-5


@pytest.mark.parametrize("label", REFUSED)
def test_what_is_refused_says_why_in_one_line(label, make_folder):
    with pytest.raises(InputError, match=VARIANTS[label].refused) as error:
        TransformerLM.from_pretrained(make_folder(label))
    assert "\n" not in str(error.value)
    assert len(re.sub(r"/tmp/\S*", "", str(error.value))) < 600
