"""The scales: which model, with how many fast weights, on how much text. Imports no JAX."""

from dataclasses import asdict, dataclass, field
from dataclasses import fields as fields_of
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from ponderttt.checks import Bounds, Count, Positive, Seed, check
from ponderttt.errors import InputError
from ponderttt.experiments.live_policy.config import DOCUMENT_UNITS, LivePolicyConfig
from ponderttt.prepare.inputs import ModelName

if TYPE_CHECKING:
    from ponderttt.prepare.recipes import Recipe

Kind = TypeVar("Kind")
Scale = Literal["125m", "350m", "1b"]


@dataclass(frozen=True)
class ModelConfig:
    """A frozen model and the low-rank fast weights (LoRA) that are added to its last blocks.

    Args:
        model_name: a known name, a folder, or an id of the hub.
        lora_rank: of the additions; at most the smaller side of each product that is added to.
        suffix_blocks: how many of the last blocks have them, at each of their products.
        dtype: of the frozen weights.

    Raises:
        InputError: a name that means nothing, or a rank or blocks that the model does not have (as
            far as its shape is known without its files).

    >>> ModelConfig(model_name="gpt2-medium", lora_rank=128).lora_rank
    128
    >>> ModelConfig(model_name="tiny", lora_rank=64, suffix_blocks=2)
    Traceback (most recent call last):
    ...
    ponderttt.errors.InputError: lora_rank is 64: q of tiny takes 32 inputs to 32 outputs, ...
    """

    model_name: ModelName = "gpt2"
    lora_rank: Annotated[int, Bounds(1, 256)] = 64
    suffix_blocks: Count = 4
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self):
        from ponderttt.models.decoder.parameters import projection_shapes
        from ponderttt.models.decoder.weights import model_shape
        from ponderttt.prepare.recipes import LOW_RANK

        check(self)
        shape = model_shape(self.model_name)
        if shape is None:
            return
        if self.suffix_blocks > shape.layers:
            raise InputError(
                f"suffix_blocks is {self.suffix_blocks}: {self.model_name} has {shape.layers} "
                f"blocks, expected 1 to {shape.layers}"
            )
        for name in LOW_RANK:
            rows, columns = projection_shapes(shape)[name]
            if self.lora_rank > min(rows, columns):
                raise InputError(
                    f"lora_rank is {self.lora_rank}: {name} of {self.model_name} takes {rows} "
                    f"inputs to {columns} outputs, expected at most {min(rows, columns)}"
                )


@dataclass(frozen=True)
class TrainingConfig:
    """On how much text a policy is trained, and what it may spend.

    Args:
        batch_size: documents that are read at once.
        num_examples: training documents.
        budget_limit: nominal cost that a document of 32 units may have; 100 is 3.125 a unit.
        chunk_size: tokens a unit.
        num_iterations: rollouts of `batch_size` documents.

    Raises:
        InputError: a number out of its bounds, or a budget below what never updating costs.

    >>> TrainingConfig(budget_limit=150.0).batch_size
    8
    """

    batch_size: Count = 8
    num_examples: Count = 5000
    budget_limit: Positive = 100.0
    chunk_size: Count = 512
    num_iterations: Count = 100

    def __post_init__(self):
        check(self)
        self.live_policy()  # refuses what cannot be trained

    def live_policy(self, **changes: Any) -> LivePolicyConfig:
        """What `train_policy` trains by, with `changes`: documents of 32 units."""
        numbers = {
            "num_iterations": self.num_iterations, "budget_limit": self.budget_limit,
            "rollout_length": self.batch_size * DOCUMENT_UNITS, "units": DOCUMENT_UNITS,
            "chunk_size": self.chunk_size, "documents": self.num_examples,
        }  # fmt: skip
        return LivePolicyConfig(**numbers | changes)


@dataclass(frozen=True)
class ExperimentConfig:
    """A scale: model, fast weights and training.

    Args:
        model: what is frozen, and what is added.
        training: on how much text.
        seed: of whatever is drawn.

    >>> config = ExperimentConfig(
    ...     model=ModelConfig(model_name="gpt2", lora_rank=128),
    ...     training=TrainingConfig(budget_limit=150.0),
    ... )
    >>> config.recipe().rank, config.training.live_policy().budget
    (128, 4.6875)
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: Seed = 0

    def __post_init__(self):
        check(self)

    def recipe(self, rule: str = "adamw", rate: float | None = None) -> "Recipe":
        """The fast weights with a rule that moves them, by default at a rate that is gentle."""
        from ponderttt.prepare.recipes import Recipe
        from ponderttt.prepare.tuning import FIRST_TRIES

        return Recipe(
            rule, FIRST_TRIES[rule][1] if rate is None else rate, self.model.suffix_blocks,
            cadence=self.training.chunk_size, rank=self.model.lora_rank,
        )  # fmt: skip

    def ask(self, kind: type[Kind], **options: Any) -> Kind:
        """A configuration of an experiment, with this scale's model, dtype and seed and `options`.

        Fields that `kind` does not have are left out; `options` come first.
        """
        known = {"model": self.model.model_name, "dtype": self.model.dtype, "seed": self.seed}
        has = {each.name for each in fields_of(kind)}  # type: ignore[arg-type]
        return kind(**{name: x for name, x in known.items() if name in has} | options)

    def stated(self) -> dict[str, Any]:
        """All of it, as results say it."""
        return asdict(self)


def get_125m_config() -> ExperimentConfig:
    """GPT-2 (124M), rank 64: for quick experiments.

    >>> get_125m_config().training.num_examples
    5000
    """
    return ExperimentConfig(ModelConfig("gpt2", 64), TrainingConfig(8, 5000))


def get_350m_config() -> ExperimentConfig:
    """GPT-2 medium (355M), rank 128: for development.

    >>> get_350m_config().model.model_name
    'gpt2-medium'
    """
    return ExperimentConfig(ModelConfig("gpt2-medium", 128), TrainingConfig(4, 10_000))


def get_1b_config() -> ExperimentConfig:
    """GPT-2 large (774M, whatever the scale's name says), rank 256: for main results.

    >>> get_1b_config().training.batch_size
    2
    """
    return ExperimentConfig(ModelConfig("gpt2-large", 256), TrainingConfig(2, 20_000))


SCALES = {"125m": get_125m_config, "350m": get_350m_config, "1b": get_1b_config}
"""By what `--model_scale` calls them."""
