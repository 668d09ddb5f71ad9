"""What scales need: held against arrays that are made, and against the machine."""

import dataclasses
import json

import jax
import pytest

from ponderttt.errors import InputError
from ponderttt.evaluation.flops import again_flops, block_flops, forward_flops, suffix_flops
from ponderttt.experiments import command, train_baseline
from ponderttt.experiments import scales as scales_module
from ponderttt.experiments.config import SCALES
from ponderttt.experiments.scales import COLUMNS, Work, check_needs, known_shape, needs, scales
from ponderttt.machine import Memory, memory
from ponderttt.models.decoder.families import gpt2, llama, neox
from ponderttt.models.decoder.lm import TransformerLM
from ponderttt.models.decoder.weights import known_models, model_shape
from ponderttt.prepare.recipes import LOW_RANK, Recipe

RECIPE = Recipe("adamw", 1e-4, 1, cadence=32, rank=4)
PLENTY = Memory(10**15, 10**15)


@pytest.mark.parametrize("shape", [llama.tiny(), gpt2.tiny(), neox.tiny()])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("recipe", [RECIPE, Recipe("sgd", 1.0, 0, cadence=32)])
def test_what_is_counted_is_what_is_made(shape, dtype, recipe):
    lm = TransformerLM.random(shape, dtype=dtype)
    found, frozen = needs(shape, recipe, dtype=dtype), jax.tree.leaves(lm)
    fast = jax.tree.leaves(recipe.adapter().init(lm))
    assert found.parameters == sum(x.size for x in frozen)
    assert found.weight_bytes == sum(x.nbytes for x in frozen)
    assert found.load_bytes == found.weight_bytes + 4 * found.parameters
    assert found.fast_parameters == sum(x.size for x in fast)
    assert found.fast_bytes == 2 * sum(x.nbytes for x in fast)


def test_flops_are_those_of_the_ledger():
    shape = gpt2.tiny()
    found = needs(shape, RECIPE, keys=64)
    read, step = suffix_flops(shape, 64, 1, unit=32, targets=LOW_RANK, rank=4)
    assert found.forward_flops == forward_flops(shape, 64)
    assert (found.read_flops, found.step_flops) == (read, step)
    assert found.step_cost == step / forward_flops(shape, 64)


def test_the_table_has_every_preset_and_pythia():
    table = scales().set_index("model")
    assert list(table.index) == ["gpt2", "gpt2-medium", "gpt2-large", *neox.PYTHIA]
    assert [*COLUMNS] == list(scales().columns)
    known = [124_439_808, 354_823_168, 774_030_080, 70_426_624, 162_322_944, 405_334_016,
             1_011_781_632, 1_414_647_808]  # fmt: skip
    assert table["parameters"].tolist() == known
    assert (table["float32_bytes"] == 4 * table["parameters"]).all()
    assert (table["bfloat16_bytes"] == 2 * table["parameters"]).all()
    assert table["lora_rank"].tolist() == [64, 128, 256] + 5 * [64]
    assert table["scale"].tolist() == [*SCALES, "", "", "", "", ""]
    assert table.notna().all(axis=None) and (table[COLUMNS[6:]] > 0).all(axis=None)


def test_a_wider_context_costs_more_and_a_higher_rank_holds_more():
    near, far = scales().set_index("model"), scales(keys=2048, rank=128).set_index("model")
    assert (far["forward_flops"] > near["forward_flops"]).all()
    pythia = list(neox.PYTHIA)
    twice = 2 * near.loc[pythia, "fast_parameters"]
    assert (far.loc[pythia, "fast_parameters"] == twice).all()
    assert (far["parameters"] == near["parameters"]).all()


def test_shapes_are_known_of_every_model_with_a_name():
    assert all(model_shape(name) is not None for name in known_models())
    with pytest.raises(InputError, match="'owner/model' is not known before its files are here"):
        known_shape("owner/model")
    with pytest.raises(InputError, match="unknown model 'gpt5'"):
        known_shape("gpt5")


def test_the_shape_of_a_folder_is_that_of_its_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 3}))
    assert known_shape(str(tmp_path)) == gpt2.config(layers=3)


def test_the_line_has_what_is_needed_in_all():
    shape, work = gpt2.gpt2_large(), Work(10**6, documents=2, cached_tokens=1000)
    recipe = SCALES["1b"]().recipe()
    line = check_needs("gpt2-large", shape, recipe, work, dtype="float32", there=PLENTY)
    found = needs(shape, recipe)
    held = 4 * found.parameters + 2 * found.fast_bytes + 4 * 1000 * 1280
    total = 10**6 * (found.forward_flops + found.read_flops + found.step_flops)
    assert "774.0 M parameters" in line and f"needs {held / 1e9:.2f} GB" in line
    assert f"{8 * found.parameters / 1e9:.2f} GB while" in line
    assert line.endswith(f"{total / 1e12:.2f} TFLOPs in all") and "\n" not in line


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize(("window", "keys"), [(None, 32), (64, 96), (0, 32 + 2048)])
def test_flops_in_all_are_by_steps_and_window(steps, window, keys):
    shape, tokens = gpt2.tiny(), 10**9
    line = check_needs(
        "tiny-gpt2", shape, RECIPE, Work(tokens, steps), dtype="float32", window=window
    )
    read, step = suffix_flops(shape, keys, 1, unit=32, targets=LOW_RANK, rank=4)
    again = again_flops(shape, keys, 1) + read
    total = forward_flops(shape, keys) + read + steps * step + max(0, steps - 1) * again
    assert line.endswith(f"at most {tokens * total / 1e12:.2f} TFLOPs in all")
    assert block_flops(shape, keys) < forward_flops(shape, keys)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (Memory(10**12, 4_000_000_000), "machine has 4.00 GB, expected 6.19 GB or more"),
        (Memory(3_000_000_000, 10**12), "device has 3.00 GB, expected 3.28 GB or more"),
    ],
)
def test_what_cannot_be_held_is_refused_with_what_it_needs(there, said):
    shape, recipe = gpt2.gpt2_large(), SCALES["1b"]().recipe()
    with pytest.raises(InputError, match=f"gpt2-large has .*{said}.*smaller --model_scale") as e:
        check_needs("gpt2-large", shape, recipe, Work(100), dtype="float32", there=there)
    assert "\n" not in str(e.value)
    assert check_needs("gpt2-large", shape, recipe, Work(100), dtype="float32", there=PLENTY)


def test_a_rank_above_the_matrix_is_refused():
    recipe = dataclasses.replace(RECIPE, rank=33)
    with pytest.raises(InputError, match="rank is 33: q takes 32 inputs"):
        check_needs("tiny-gpt2", gpt2.tiny(), recipe, Work(1), dtype="float32", there=PLENTY)


def test_memory_is_this_machines():
    there = memory()
    assert 10**8 < there.device <= there.host < 10**14


def test_a_command_says_what_it_needs_before_it_fetches_anything(folder, monkeypatch, capsys):
    def fetch(scale):
        said = capsys.readouterr().out.splitlines()
        assert said[-1].startswith("gpt2-medium has 354.8 M parameters; it needs ")
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load_scale", fetch)
    config = train_baseline.TrainBaselineConfig(model_scale="350m", source=str(folder))
    with pytest.raises(KeyboardInterrupt):
        train_baseline.run(config)
    monkeypatch.setattr(scales_module, "memory", lambda: Memory(10**9, 10**9))
    with pytest.raises(InputError, match="gpt2-medium has .*this machine has 1.00 GB"):
        train_baseline.run(config)


def test_the_model_that_is_read_in_its_place_is_said_too(folder, monkeypatch, capsys):
    tiny = TransformerLM.from_pretrained("tiny")
    monkeypatch.setattr(command, "load_scale", lambda scale: tiny)
    config = train_baseline.TrainBaselineConfig(
        source=str(folder), chunk_size=16, num_chunks=2, action="UPDATE_1"
    )
    train_baseline.run(config)
    said = capsys.readouterr().out
    assert said.index("gpt2 has 124.4 M") < said.index("tiny has 0.0 M") < said.index("Chunk 1/2")
    with pytest.raises(InputError, match="rank is 64: the last state takes 32 inputs"):
        train_baseline.run(dataclasses.replace(config, lora=True))


def test_lora_reads_with_low_rank_additions(folder, monkeypatch):
    monkeypatch.setattr(
        command, "load_scale", lambda scale: TransformerLM.random(gpt2.config(
            vocab_size=257, width=64, layers=1, heads=2, max_positions=64))
    )  # fmt: skip
    how = {"source": str(folder), "chunk_size": 16, "num_chunks": 4, "action": "UPDATE_1",
           "rule": "adamw", "suffix_blocks": 1}  # fmt: skip
    results = [
        train_baseline.run(train_baseline.TrainBaselineConfig(**how, lora=lora))
        for lora in (False, True)
    ]
    full, low = (result["chunk_losses"] for result in results)
    assert full[0] == low[0] and full[1:] != low[1:]
    assert results[1]["config"]["lora"] is True
