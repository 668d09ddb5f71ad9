"""The presets: as the seeds have them, refused where they mean nothing, taken by experiments."""

import dataclasses

import jax
import pytest

from ponderttt.errors import InputError
from ponderttt.experiments.baselines import BaselinesConfig
from ponderttt.experiments.config import (
    SCALES,
    ExperimentConfig,
    ModelConfig,
    TrainingConfig,
    get_1b_config,
    get_125m_config,
    get_350m_config,
)
from ponderttt.experiments.convergence import ConvergenceConfig
from ponderttt.experiments.convergence_analysis import ConvergenceAnalysisConfig
from ponderttt.experiments.gating import GatingConfig
from ponderttt.experiments.oracle import OracleConfig
from ponderttt.experiments.ppo_policy import PPOPolicyConfig
from ponderttt.experiments.repositories import RepositoriesConfig
from ponderttt.experiments.update_rules import UpdateRulesConfig
from ponderttt.models.decoder.families import gpt2
from ponderttt.models.decoder.lm import TransformerLM

EXPERIMENTS = (BaselinesConfig, ConvergenceConfig, GatingConfig, OracleConfig, PPOPolicyConfig,
               RepositoriesConfig, UpdateRulesConfig)  # fmt: skip


def test_presets_are_those_of_the_seeds():
    found = {
        scale: (c.model.model_name, c.model.lora_rank, c.training.batch_size,
                c.training.num_examples, c.training.budget_limit)
        for scale, c in ((scale, make()) for scale, make in SCALES.items())
    }  # fmt: skip
    assert found == {
        "125m": ("gpt2", 64, 8, 5_000, 100.0),
        "350m": ("gpt2-medium", 128, 4, 10_000, 100.0),
        "1b": ("gpt2-large", 256, 2, 20_000, 100.0),
    }
    assert SCALES["350m"]() == get_350m_config() != get_1b_config()


def test_the_seeds_own_example():
    config = ExperimentConfig(
        model=ModelConfig(model_name="gpt2", lora_rank=128),
        training=TrainingConfig(budget_limit=150.0),
    )
    assert config.recipe().rank == 128 and config.training.budget_limit == 150
    assert config.training.batch_size == 8


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_every_experiment_on_a_frozen_model_takes_a_preset(scale, kind):
    preset = dataclasses.replace(SCALES[scale](), seed=3)
    config = preset.ask(kind)
    assert config.model == preset.model.model_name and config.dtype == "auto"
    assert config.seed == 3 if hasattr(config, "seed") else True
    assert preset.ask(kind, model="tiny").model == "tiny"


def test_the_command_of_convergence_takes_a_scale():
    assert ConvergenceAnalysisConfig(model_scale="1b").experiment().model == "gpt2-large"
    assert ConvergenceAnalysisConfig(model="tiny").experiment().model == "tiny"
    with pytest.raises(InputError, match="unknown model_scale '2b': expected 125m, 350m or 1b"):
        ConvergenceAnalysisConfig(model_scale="2b")


def test_a_policy_is_trained_by_whole_rollouts_of_the_batch():
    config = get_125m_config().training.live_policy()
    assert config.rollout_length == 256  # as the seeds collect
    assert (config.at_once, config.units, config.documents) == (8, 32, 5000)
    assert config.budget == 3.125
    changed = get_1b_config().training.live_policy(documents=4, num_iterations=1)
    assert (changed.at_once, changed.documents, changed.num_iterations) == (2, 4, 1)


def test_the_fast_weights_of_a_preset_fit_its_model():
    for scale, shape in (("125m", gpt2.gpt2()), ("350m", gpt2.gpt2_medium()),
                         ("1b", gpt2.gpt2_large())):  # fmt: skip
        recipe = SCALES[scale]().recipe()
        fast = jax.eval_shape(
            lambda recipe=recipe, shape=shape: recipe.adapter().init(TransformerLM.random(shape))
        )
        rank = SCALES[scale]().model.lora_rank
        assert fast["q"]["a"].shape == (4, shape.width, rank)
        assert fast["mlp_in"]["b"].shape == (4, rank, 4 * shape.width)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig("gpt5"), "unknown model 'gpt5'"),
        (lambda: ModelConfig(lora_rank=0), "lora_rank is 0: expected 1 to 256"),
        (lambda: ModelConfig(lora_rank=512), "lora_rank is 512: expected 1 to 256"),
        (
            lambda: ModelConfig("tiny", 33, 2),
            "lora_rank is 33: q of tiny takes 32 inputs to 32 out",
        ),
        (
            lambda: ModelConfig("tiny", 17, 2),
            "k of tiny takes 32 inputs to 16 outputs, expected at",
        ),
        (lambda: ModelConfig("tiny", 4, 3), "suffix_blocks is 3: tiny has 2 blocks"),
        (lambda: ModelConfig(dtype="float16"), "unknown dtype 'float16'"),
        (lambda: TrainingConfig(batch_size=0), "batch_size is 0"),
        (lambda: TrainingConfig(num_examples=2.5), "num_examples is 2.5"),
        (lambda: TrainingConfig(budget_limit=31.0), "infeasible: never updating costs 32 on 32"),
        (lambda: TrainingConfig(budget_limit=float("nan")), "budget_limit is nan"),
        (lambda: TrainingConfig(8, num_examples=4), "an iteration reads 8 documents"),
        (lambda: ExperimentConfig(seed=-1), "seed is -1"),
        (lambda: get_125m_config().recipe(rate=0.0).adapter(), "rate"),
    ],
)
def test_what_a_scale_cannot_be_is_one_line(make, message):
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_model_known_by_its_id_alone_is_not_looked_up():
    """Nothing is fetched to make a configuration."""
    assert ModelConfig("someone/model", 256).lora_rank == 256
