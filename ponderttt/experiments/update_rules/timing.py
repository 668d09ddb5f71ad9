"""Seconds of reading under a recipe beside those of the frozen base, all timed in turns."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from ponderttt.environment.rollout import rollout
from ponderttt.evaluation.timing import interleaved, seconds
from ponderttt.models.adapters.protocol import token_losses
from ponderttt.models.decoder.hidden import hidden_states
from ponderttt.policies import UniformPolicy
from ponderttt.prepare.recipes import Recipe
from ponderttt.prepare.repositories import Repository
from ponderttt.prepare.repository_reader import RepositoryReader
from ponderttt.types import Documents


def timed(
    reader: RepositoryReader, repository: Repository, shown: dict[str, Recipe], units: int
) -> pd.DataFrame:
    """One row per recipe: seconds a token with its steps, without, and of the base's forward.

    Of one file of `units` units, read with `switch`. A rule that gathers is timed as the
    normalised one: what it does with a gradient takes no time beside the gradient.
    """
    lm, window = reader.lm, reader.window
    losses = jax.jit(token_losses)

    def alike(recipe: Recipe) -> Recipe:
        return replace(recipe, rule="normalized", pull=None) if recipe.gathers else recipe

    def document_of(recipe: Recipe) -> Documents:
        tokens = repository.regroup(recipe.cadence).document.tokens[:, :units]
        return Documents(tokens, np.ones(tokens.shape, bool), repository.document.bos)  # type: ignore[arg-type]

    def forward(document: Documents):
        return losses(lm, hidden_states(lm, document, window=window), document.tokens)

    whole = document_of(next(iter(shown.values())))
    takes: dict = {"forward": seconds(forward, whole)}
    tokens = {}
    for name, recipe in shown.items():
        document, adapter = document_of(recipe), alike(recipe).adapter()
        hidden = jnp.asarray(
            hidden_states(lm, document, window=window, suffix_blocks=recipe.suffix_blocks)
        )

        def reading(policy, document=document, adapter=adapter, hidden=hidden):
            return rollout(
                lm, adapter, policy, document, key=jax.random.key(0), dispatch="switch",
                window=window, hidden=hidden,
            ).nll  # fmt: skip

        tokens[name] = document.tokens.size
        takes[name, "still"] = seconds(reading, UniformPolicy("SKIP"))
        takes[name, "learning"] = seconds(reading, recipe.policy)
    taken = interleaved(takes, repeats=3)
    return pd.DataFrame(
        [
            {
                "shown": name,
                "label": recipe.label,
                "forward": taken["forward"] / whole.tokens.size,
                **{part: taken[name, part] / tokens[name] for part in ("still", "learning")},
            }
            for name, recipe in shown.items()
        ]
    ).assign(share=lambda t: (t["learning"] - t["still"]) / t["forward"])
