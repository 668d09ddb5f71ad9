"""The conditions: what gives each token of a repository its loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ponderttt.environment.reading import Reset
from ponderttt.experiments.repositories.config import MIXING, SHARPNESS, RepositoriesConfig
from ponderttt.models.decoder.window import window_of
from ponderttt.policies import UniformPolicy
from ponderttt.prepare.neural_cache import cache_losses
from ponderttt.prepare.recipes import Recipe, still
from ponderttt.prepare.repositories import Repository, joined, shuffled
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.progress import track

BASE, CARRIED, RESET = "base", "carried", "reset at each file"
PLAIN, CACHE, BOTH = "normalized steps", "continuous cache", "carried, with the cache"
SHUFFLED = "files shuffled"
OWN, OTHER, NOTHING = "its own first half", "another repository", "nothing"


class Mixture(NamedTuple):
    """How the continuous cache stands beside a model."""

    sharpness: float
    share: float


@dataclass(frozen=True)
class Conditions:
    """What reads, and by which recipes."""

    reader: RepositoryReader
    config: RepositoriesConfig

    def base(self, repository: Repository) -> Float[np.ndarray, "N U"]:
        """Losses of the frozen base at the window: no addition moves from zero."""
        return self._read(repository, still(self.config.blocks), UniformPolicy("SKIP"))

    def learned(
        self, repository: Repository, recipe: Recipe | None = None, *, reset: Reset = "repository"
    ) -> Float[np.ndarray, "N U"]:
        """Losses under a recipe, by default the chosen one."""
        recipe = recipe or self.config.recipe
        return self._read(repository, recipe.adapter(), recipe.policy, reset=reset)

    def cache(self, repository: Repository) -> Float[np.ndarray, "sharpness N U"]:
        """Losses of the continuous cache alone, at each sharpness."""
        return cache_losses(self.reader, repository.document, self.config.blocks, SHARPNESS)

    def shuffled(self, repository: Repository) -> Float[np.ndarray, "N U"]:
        """Losses under the recipe where files come in another order, put back in place."""
        moved, order = shuffled(repository, self.config.seed)
        states = self.reader.states(repository.document, self.config.blocks)[:, order]
        losses = self._read(
            moved, self.config.recipe.adapter(), self.config.recipe.policy, states=states
        )
        back = np.empty_like(losses)
        back[order] = losses
        return back

    def second_half(
        self, repository: Repository, before: Repository | None
    ) -> Float[np.ndarray, "N U"]:
        """Losses of its files from the middle on, read after as many units of `before`."""
        reader, blocks, middle = self.reader, self.config.blocks, repository.middle()
        half = repository.units(slice(middle, None))
        states = reader.states(repository.document, blocks)[:, middle:]
        if before is not None:
            # A file that is cut there loses its end; what was read of it keeps its states.
            part = before.units(slice(0, middle))
            states = np.concatenate(
                [reader.states(before.document, blocks)[:, :middle], states], axis=1
            )
            half = joined(part, half)
        recipe = self.config.recipe
        losses = self._read(half, recipe.adapter(), recipe.policy, states=states)
        return losses[-(len(repository.document.tokens[0]) - middle) :]

    def _read(self, repository: Repository, adapter, policy, **options) -> np.ndarray:
        found = self.reader.read(repository.document, adapter, policy, **options)
        return found["token_nll"]


def mixed(
    losses: Float[np.ndarray, "*shape"], cache: Float[np.ndarray, "*shape"], share: float
) -> Float[np.ndarray, "*shape"]:
    """`-ln((1 - share) p + share p_cache)`, from the losses of both."""
    with np.errstate(divide="ignore"):
        return -np.logaddexp(np.log1p(-share) - losses, np.log(share) - cache)


def tuned_mixture(
    conditions: Conditions, training: Sequence[Repository]
) -> tuple[Mixture, list[dict]]:
    """The setting of the cache that gains most on training repositories, and all of them.

    Every source weighs the same.
    """
    gains: dict[Mixture, dict[str, list[float]]] = {}
    for repository in track(training, "tuning the cache", len(training)):
        base, mask = conditions.base(repository), _mask(repository)
        for sharpness, cache in zip(SHARPNESS, conditions.cache(repository), strict=True):
            for share in MIXING:
                gain = (base - mixed(base, cache, share))[mask].mean()
                setting = Mixture(sharpness, share)
                gains.setdefault(setting, {}).setdefault(repository.source, []).append(gain)
    means = {
        setting: float(np.mean([np.mean(each) for each in by_source.values()]))
        for setting, by_source in gains.items()
    }
    best = max(means, key=means.__getitem__)
    rows = [setting._asdict() | {"gain": gain} for setting, gain in means.items()]
    return best, [row | {"chosen": row["gain"] == means[best]} for row in rows]


def _mask(repository: Repository) -> Bool[np.ndarray, "N U"]:
    return np.asarray(repository.document.mask[0])


def read_conditions(
    conditions: Conditions, repository: Repository, mixture: Mixture, contrasted: bool
) -> dict[str, np.ndarray]:
    """Losses of every token under every condition that covers the whole repository."""
    config = conditions.config
    base, carried = conditions.base(repository), conditions.learned(repository)
    cache = conditions.cache(repository)[SHARPNESS.index(mixture.sharpness)]
    found = {
        BASE: base,
        CARRIED: carried,
        RESET: conditions.learned(repository, reset="file"),
        CACHE: mixed(base, cache, mixture.share),
        BOTH: mixed(carried, cache, mixture.share),
    }
    if contrasted:
        found[PLAIN] = conditions.learned(repository, config.plain)
        found[SHUFFLED] = conditions.shuffled(repository)
    return {name: losses.ravel() for name, losses in found.items()}


def short_windows(
    conditions: Conditions, repository: Repository
) -> dict[tuple[int, bool], np.ndarray]:
    """Losses in a window of a quarter and the whole one, without and with updates."""
    reader, config = conditions.reader, conditions.config
    found = {}
    whole = reader.window.tokens
    quarter = max(1, whole // 4 // config.unit) * config.unit
    for tokens in (quarter, whole):
        window = window_of(reader.lm.config, config.unit, tokens)
        inside = Conditions(RepositoryReader(reader.lm, window, reader.seed), config)
        found[tokens, False] = inside.base(repository)
        found[tokens, True] = inside.learned(repository)
    return found
