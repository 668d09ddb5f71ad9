"""What a model cannot do for a text or an experiment is said when both are there."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.checkpoints import save

from ponderttt.data.tokenizer import get_tokenizer, vocabulary_size
from ponderttt.errors import InputError
from ponderttt.models.decoder.families import llama
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.head import head_nll
from ponderttt.policies.features import TokenTable
from ponderttt.prepare.corpora import load_texts
from ponderttt.prepare.tuning import layer_shape, train_layer


@pytest.fixture(autouse=True)
def fresh_caches():
    yield
    get_tokenizer.cache_clear()


@pytest.fixture
def saved(tmp_path):
    """A Llama over 257 symbols, in a folder, with the byte tokenizer."""
    rng = np.random.default_rng(0)
    shapes = {
        "model.embed_tokens": (257, 8), "model.norm": (8,),
        **{f"model.layers.0.{name}": (8,) for name in
           ("input_layernorm", "post_attention_layernorm")},
        **{f"model.layers.0.self_attn.{name}_proj": (8, 8) for name in "qkvo"},
        **{f"model.layers.0.mlp.{name}_proj": (8, 8) for name in ("gate", "up", "down")},
    }  # fmt: skip
    tensors = {f"{name}.weight": rng.normal(size=shape) for name, shape in shapes.items()}
    save(tmp_path / "model.safetensors", tensors)
    config = dict(
        model_type="llama", vocab_size=257, hidden_size=8, intermediate_size=8,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=128, rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    get_tokenizer("bytes").save_pretrained(tmp_path)
    return tmp_path


def load(lm, folder, unit=32):
    return load_texts(lm, (str(folder),), split="test", unit=unit, units=2, count=1, seed=0)


def add_symbol(saved, number=257):
    """One more symbol in the tokenizer of that folder."""
    path = saved / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["ab"] = number
    content["model"]["merges"] = [["a", "b"]]
    path.write_text(json.dumps(content))


def test_a_tokenizer_of_as_many_symbols_reads(saved, folder):
    lm = TransformerLM.from_pretrained(saved)
    assert vocabulary_size(lm.load_tokenizer()) == 257
    assert len(load(lm, folder)) == 1


def test_a_tokenizer_with_more_symbols_than_the_model_is_refused(saved, folder):
    add_symbol(saved)
    lm = TransformerLM.from_pretrained(saved)
    expected = "has ids 0 to 257, but the model .* vocabulary of 0 to 256: .*embeddings.258"
    with pytest.raises(InputError, match=expected):
        load(lm, folder)
    with pytest.raises(InputError) as error:
        lm.logits(np.full((1, 4), 257))
    assert "vocabulary" in str(error.value) and "get_tokenizer" not in str(error.value)


def test_ids_are_counted_by_the_largest_not_by_how_many_there_are(saved):
    content = json.loads((saved / "config.json").read_text()) | {"vocab_size": 257}
    (saved / "config.json").write_text(json.dumps(content))
    add_symbol(saved, 300)
    lm = TransformerLM.from_pretrained(saved)
    with pytest.raises(InputError, match="has ids 0 to 300"):
        lm.load_tokenizer()
    tokenizer = get_tokenizer(str(saved))
    assert len(tokenizer) == 258
    table = TokenTable.fit(tokenizer, np.array([[300, 97]]), np.ones((1, 1, 8), np.float32))
    assert len(table.classes) == 301 and table.log_frequency[300] > table.log_frequency[299]


def test_units_longer_than_the_positions_are_refused_before_text_is_read(saved):
    lm = TransformerLM.from_pretrained(saved)
    with pytest.raises(InputError, match="units of 256 tokens: .* has positions for 128; lower"):
        load(lm, "/nowhere", unit=256)


@pytest.mark.parametrize("dtype", [np.float32, bool])
def test_ids_are_whole_numbers(saved, dtype):
    with pytest.raises(InputError, match="expected whole numbers"):
        TransformerLM.from_pretrained(saved).logits(np.zeros((1, 4), dtype))


@pytest.mark.parametrize("bad", [257, -1, -300])
def test_under_jit_an_unknown_id_gives_nan_and_no_number(saved, bad):
    lm = TransformerLM.from_pretrained(saved)
    tokens = jnp.zeros((1, 4), int).at[0, 2].set(bad)
    logits = jax.jit(lambda lm, tokens: lm.logits(tokens))(lm, tokens)
    assert np.isnan(logits[0, 2:]).all()
    nll = head_nll(jnp.ones((1, 4, 8)), lm.head, tokens)
    np.testing.assert_array_equal(np.isnan(nll[0]), [False, False, True, False])


def test_heads_need_not_make_the_width(folder):
    """The TTT layer has heads of its own, of a size that divides the width."""
    lm = TransformerLM.random(llama.tiny().replace(head_dim=12))
    assert lm.config.heads * lm.config.head_dim != lm.config.width == 32
    texts = load(lm, folder)
    assert layer_shape(lm, texts).head_dim == 8
    _, history = train_layer(lm, texts, texts, steps=2, mixture=(0, 1, 0, 0), seed=0, name="wide")
    assert np.isfinite(history["validation"]).all()
