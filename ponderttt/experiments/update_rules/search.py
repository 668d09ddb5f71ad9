"""The search: recipes tried stage by stage on training repositories, chosen on validation."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jax
import numpy as np
import pandas as pd

from ponderttt.errors import InputError
from ponderttt.evaluation.by_position import binned, by_document
from ponderttt.experiments.update_rules.config import UpdateRulesConfig
from ponderttt.models.adapters.next_token import NextToken
from ponderttt.models.decoder.parameters import projection_shapes
from ponderttt.policies import UniformPolicy
from ponderttt.prepare.recipes import ALPHA, ITERATIONS, LOW_RANK, Recipe, still
from ponderttt.prepare.repositories import Repository
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.progress import track

CENTRES = {
    "sgd": 0.1, "normalized": 0.1, "rms": 3e-4, "rms_sum": 1e-4, "rms_sum_sqrt": 3e-3,
    "adamw": 3e-4, **dict.fromkeys(ITERATIONS, 3e-2),
}  # fmt: skip
"""Rates at which MLP outputs of a few blocks learn; the grid is laid about them."""
LAST_STATE = {"rms": 3e-3, "adamw": 3e-3, "sgd": 4.0, "normalized": 0.3}
"""The same for the map on the last state."""
LOW_RANK_RATE = 3.0
"""Low-rank additions start with half of their factors at zero: their rates are so much larger."""
FACTOR = 3.0


@dataclass
class Search:
    """What reads, on which training and validation repositories, and all that was tried."""

    config: UpdateRulesConfig
    reader: RepositoryReader
    training: list[Repository]
    validation: list[Repository]
    keys: float
    """That a query meets on average, where FLOPs are counted (`keys_met`)."""
    recipes: dict[str, tuple[str, Recipe]] = field(default_factory=dict)
    """By label: the stage that a recipe was tried in, and the recipe."""
    trials: list[pd.DataFrame] = field(default_factory=list)

    def run(self) -> Recipe:
        """Every stage; the winner."""
        config = self.config
        best = self.try_all("rule", self._rules())
        if "rms" in config.rules:
            rms = self.best_of(lambda recipe: recipe.rule == "rms")
            pulled = [replace(rms, pull=pull) for pull in config.search.pulls]
            best = self.try_all("pull", pulled)
        self.try_all("depth", self._depths(best))
        if best.rule in ITERATIONS:
            self.try_all("iterations", self._cheaper(best))
        best = self.recipes[self.affordable()[0]][1]
        self.try_all("low rank", self._low_rank(best))
        self.try_all("cadence", self._cadences(best))
        self.try_all("steps", self._steps(best))
        return self.choose()

    def try_all(self, stage: str, recipes: Sequence[Recipe]) -> Recipe:
        """Every recipe on every training repository; the best of all stages so far."""
        for recipe in track(recipes, f"trying {stage}", len(recipes)):
            if recipe.label not in self.recipes:
                self.recipes[recipe.label] = stage, recipe
                self.trials.append(self.measure(recipe, self.training, "train"))
        return self.best_of(lambda recipe: True)

    def best_of(self, wanted) -> Recipe:
        """The wanted recipe with the best mean gain in training; a loss not finite loses."""
        found = self.means("train")
        return self.recipes[
            max(
                (label for label in found.index if wanted(self.recipes[label][1])),
                key=lambda label: found[label],
            )
        ][1]

    def means(self, split: str) -> pd.Series:
        """The mean gain of every recipe read on a split, every source weighing the same."""
        table = pd.concat(self.trials)
        each = table[table["split"] == split].groupby(["label", "source"], sort=False)["gain"]
        means = each.agg(lambda gain: gain.mean(skipna=False)).groupby("label", sort=False)
        return means.agg(lambda gain: gain.mean(skipna=False)).fillna(-np.inf)

    def measure(
        self, recipe: Recipe, repositories: Sequence[Repository], split: str
    ) -> pd.DataFrame:
        """One row per repository: loss, gain and thirds, and where it diverged."""
        adapter = recipe.adapter(self.statistics(recipe))
        rows = []
        for repository in repositories:
            bins, diverged = read_bins(self.reader, repository, recipe, adapter)
            rows.append(by_document(bins, ["source", "repository"]).assign(diverged=diverged))
        return pd.concat(rows, ignore_index=True).assign(label=recipe.label, split=split)

    def statistics(self, recipe: Recipe):
        """Sums of squares over the training repositories, for the rules that need them."""
        if not recipe.gathers:
            return None
        plain = replace(recipe, rule="normalized", pull=None)
        found = [
            self.reader.gather(each.regroup(recipe.cadence).document, plain.adapter())
            for each in self.training
        ]
        return jax.tree.map(lambda *sums: sum(sums), *found)

    def choose(self) -> Recipe:
        """The finalists on validation repositories; the best of them."""
        finalists = self.finalists()
        for label in track(finalists, "validation", len(finalists)):
            self.trials.append(self.measure(self.recipes[label][1], self.validation, "validation"))
        return self.recipes[str(self.means("validation").idxmax())][1]

    def affordable(self) -> list[str]:
        """The recipes within the FLOP budget that stayed finite in training, the best first."""
        found = self.means("train").sort_values(ascending=False)
        within = [
            label
            for label in found.index
            if np.isfinite(found[label]) and self._within(self.recipes[label][1])
        ]
        if not within:
            raise InputError(
                "no recipe that was tried stayed finite and adds at most "
                f"{self.config.search.flops_budget:.0%} to a forward pass: expected fewer blocks, "
                "or more rules"
            )
        return within

    def finalists(self) -> list[str]:
        """The best recipes within the FLOP budget, and a gentler one.

        Test repositories are longer than those of the search, and a rate may be safe for a short
        text only: the last place goes to the best with less than half the first one's rate.
        """
        within = self.affordable()
        best = self.recipes[within[0]][1]
        count = self.config.search.finalists
        most = max(1, count - 1)
        first, rest = within[:most], within[most:] if count > 1 else []
        gentler = [
            label
            for label in rest
            if self.recipes[label][1].rule == best.rule
            and self.recipes[label][1].rate < best.rate / 2
        ]
        return [*first, *(gentler or rest)[:1]]

    def _rules(self) -> list[Recipe]:
        config = self.config
        return [
            Recipe(rule, rate, config.blocks, config.unit)
            for rule in config.rules
            for rate in grid(CENTRES[rule], config.search.rates)
        ]

    def _depths(self, best: Recipe) -> list[Recipe]:
        config, most = self.config, self.reader.lm.config.layers
        found = []
        for depth in config.search.depths:
            depth = min(depth, most)
            if depth == 0:
                rules = dict.fromkeys((best.rule, "sgd"))
                found += [
                    Recipe(rule, rate, 0, config.unit)
                    for rule in rules
                    if rule in LAST_STATE
                    for rate in grid(LAST_STATE[rule], config.search.rates)
                ]
            else:
                factor = 1 / FACTOR if depth > best.suffix_blocks else FACTOR
                rates = [best.rate, rounded(best.rate * factor)]
                found += [replace(best, suffix_blocks=depth, rate=rate) for rate in rates]
        return found

    def _cheaper(self, best: Recipe) -> list[Recipe]:
        """Fewer iterations: at the same depth, and as deep as the FLOP budget allows."""
        found = []
        for rule in (*self.config.search.iterations, best.rule):
            each = replace(best, rule=rule)
            for depth in dict.fromkeys((best.suffix_blocks, self._deepest(each))):
                rates = (best.rate, rounded(best.rate / FACTOR))
                found += [replace(each, suffix_blocks=depth, rate=rate) for rate in rates]
        return found

    def _deepest(self, recipe: Recipe) -> int:
        """In how many blocks it could learn within the FLOP budget: one at least."""
        depth, most = 1, self.reader.lm.config.layers
        while depth < most and self._within(replace(recipe, suffix_blocks=depth + 1)):
            depth += 1
        return depth

    def _within(self, recipe: Recipe) -> bool:
        """Whether the FLOP budget allows it."""
        share = recipe.share(self.reader.lm.config, self.keys)
        return share <= self.config.search.flops_budget

    def _low_rank(self, best: Recipe) -> list[Recipe]:
        shapes = projection_shapes(self.reader.lm.config)
        most = min(min(shapes[name]) for name in LOW_RANK)
        found = []
        for rank in dict.fromkeys(min(rank, most) for rank in self.config.search.ranks):
            # An orthogonal step is as large whatever the gradient: `alpha / rank` scales it.
            rate = best.rate * (rank / ALPHA if best.rule in ITERATIONS else 1)
            found += [
                replace(best, rank=rank, rate=rounded(each))
                for each in (rate, LOW_RANK_RATE * rate)
            ]
        return found

    def _cadences(self, best: Recipe) -> list[Recipe]:
        found = []
        for cadence in self.config.cadences:
            other = rounded(best.rate * (cadence / best.cadence) ** 0.5)
            rates = dict.fromkeys((best.rate, other))
            found += [replace(best, cadence=cadence, rate=rate) for rate in rates]
        return found

    def _steps(self, best: Recipe) -> list[Recipe]:
        return [
            replace(best, steps=steps, rate=rate)
            for steps in self.config.search.steps
            for rate in dict.fromkeys((best.rate, rounded(best.rate / steps)))
        ]


def read_bins(
    reader: RepositoryReader, repository: Repository, recipe: Recipe, adapter: NextToken
) -> tuple[pd.DataFrame, int]:
    """The bins of a repository under a recipe, and the unit at which its loss was not finite.

    -1 where all are. The base is the same adapter, never updated. States are those of the
    repository's own units, whatever the cadence: a window is one of tokens.
    """
    own = reader.states(repository.document, recipe.suffix_blocks)
    document = repository.regroup(recipe.cadence).document
    states = own.reshape(*document.tokens.shape, -1)
    found = reader.read(document, adapter, recipe.policy, states=states)
    base = reader.read(
        repository.document, still(recipe.suffix_blocks), UniformPolicy("SKIP"), states=own
    )
    lost = np.flatnonzero(~np.isfinite(found["nll"]))
    bins = binned(found["token_nll"].ravel(), base["token_nll"].ravel(), found["mask"].ravel())
    return (
        bins.assign(source=repository.source, repository=repository.name),
        int(lost[0]) if lost.size else -1,
    )


def grid(centre: float, count: int) -> list[float]:
    """`count` rates a factor apart, about `centre`, the extra one above it."""
    return [rounded(centre * FACTOR ** (i - (count - 1) // 2)) for i in range(count)]


def rounded(rate: float) -> float:
    """To one digit: rates are tried by factors.

    >>> rounded(0.00028)
    0.0003
    """
    return float(f"{rate:.0e}")
