"""The examples in the docstrings: one for each function of these modules, and each public name."""

import doctest
import importlib
import inspect

import pytest

PUBLIC = {
    "ponderttt.data": (
        "get_tokenizer", "create_data_iterator", "CodeDataset", "get_wikitext2_dataloaders",
    ),
    "ponderttt.models": (
        "TransformerLM", "TTTLayer", "TTTConfig", "FastWeightLayer", "PolicyNetwork",
        "HaltingPolicyNetwork", "IterativeTransformerConfig", "IterativeTransformerTTT",
    ),
    "ponderttt.policies": (
        "FeatureExtractor", "UniformPolicy", "RandomPolicy", "EntropyBasedPolicy",
        "LossBasedPolicy", "GradientNormBasedPolicy", "PerplexityBasedPolicy",
    ),
    "ponderttt.training": ("TTTTrainer", "PolicyTrainer", "PIDLagrangianPPO"),
    "ponderttt.evaluation": (
        "compute_flops", "compute_model_flops", "compute_efficiency_metrics",
        "compute_pareto_frontier", "compute_action_statistics",
    ),
    "ponderttt.cache": ("import_closure",),
    "ponderttt.experiments.notebook": ("config",),
    "ponderttt.experiments.config": (
        "ExperimentConfig", "ModelConfig", "TrainingConfig", "get_125m_config", "get_350m_config",
        "get_1b_config",
    ),
    "ponderttt.experiments.scales": ("scales", "needs", "check_needs"),
    "ponderttt.experiments.ppo_policy.tables": ("thinned",),
}  # fmt: skip
"""Of DESIGN section 14, what is there so far and belongs to deciding."""


MODULES = (
    "allocation.gap", "evaluation.costs", "evaluation.flops", "evaluation.metrics",
    "evaluation.paired", "evaluation.token_costs",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_every_function_of_a_module_has_an_example_that_holds(name):
    module = importlib.import_module(f"ponderttt.{name}")
    public = [
        function
        for label, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not label.startswith("_")
    ]
    assert public
    assert [f.__name__ for f in public if ">>>" not in (f.__doc__ or "")] == []
    result = doctest.testmod(module)
    assert result.attempted >= len(public) and result.failed == 0


@pytest.mark.lists
@pytest.mark.parametrize("package", PUBLIC)
def test_a_public_name_is_importable_and_its_example_holds(package):
    for name in PUBLIC[package]:
        value = getattr(importlib.import_module(package), name)
        module = importlib.import_module(value.__module__)
        examples = doctest.DocTestFinder(recurse=False).find(
            value, name, module, globs=dict(vars(module))
        )
        assert examples and examples[0].examples, name
        for example in examples:
            result = doctest.DocTestRunner(
                optionflags=doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS
            ).run(example)
            assert result.failed == 0, name
