"""From learned policies to tidy tables: losses in nats a token, costs nominal and a unit."""

from collections.abc import Mapping

import jax
import numpy as np
import pandas as pd

from ponderttt.allocation import equal_cost
from ponderttt.allocation.calibration import Outcome, uniform_outcomes
from ponderttt.allocation.equal_cost import Curve
from ponderttt.allocation.gap import budget_error
from ponderttt.allocation.learned import AROUND, Learned, run_with_hard_budget
from ponderttt.allocation.stream import AllocationTask, by_source
from ponderttt.data import get_tokenizer
from ponderttt.evaluation.paired import holm
from ponderttt.policies import UniformPolicy
from ponderttt.types import CHUNK_ACTIONS

KEPT = 93
"""Iterations of each seed in the history. Those that the page draws are among them."""
HERE = AROUND.index(1.0)
QUANTITIES = (
    "reward", "cost", "multiplier", "violation", "entropy", "kl", "clip_share",
    "explained_variance", "cost_explained_variance", "loss", "value_loss", "grad_norm",
)  # fmt: skip
"""Of the history, one number an iteration each; the mix of actions is beside them."""


def outcomes(learned: Learned) -> list[Outcome]:
    """What each seed got on the test documents at exactly the budget, on its own cost curve."""
    return [Curve(*seed).interpolate(learned.budget) for seed in zip(*learned.test, strict=True)]


def mean_outcome(learned: Learned) -> Outcome:
    """The same, averaged over seeds: a document is one sample."""
    return Outcome(*(np.mean(each, axis=0) for each in zip(*outcomes(learned), strict=True)))


def learned(task: AllocationTask, each: Learned) -> pd.DataFrame:
    """A row for each seed and point of its cost curve."""
    rows = []
    for s, (cost, loss) in enumerate(zip(each.test.cost, each.test.loss, strict=True)):
        for p, around in enumerate(AROUND):
            rows.append(
                {
                    "stream": task.stream,
                    "budget": each.budget,
                    "seed": s,
                    "target": around * each.budget,
                    "validation_cost": float(each.validation.cost[s, p].mean()),
                    "cost": float(cost[p].mean()),
                    "loss": by_source(loss[p], task.test.texts),
                }
            )
    return pd.DataFrame(rows)


def seeds(task: AllocationTask, each: Learned, documents: pd.DataFrame) -> pd.DataFrame:
    """A row for each seed: the gap that it captures, and how it keeps the budget.

    `trained_cost` is the mean over the last quarter of training, `cost` that on the test documents,
    `hard_cost` the same under the hard account, and `violations` the units that overdrew it; gains
    are over SKIP.
    """
    here = (documents["stream"] == task.stream) & (documents["budget"] == each.budget)
    rows = documents[here & documents["method"].isin(["control", "oracle"])]
    price = float(rows["price"].iloc[0])
    units, count = task.units, each.history.cost.shape[-1]
    decisions = np.asarray(each.history.cost)[:, -max(1, count // 4) :].mean(axis=-1)
    trained = (decisions * (units - 1) + CHUNK_ACTIONS.costs[0]) / units
    episode = run_with_hard_budget(each, task.test)
    under = np.asarray(episode.cost, float)  # S B N
    skip = uniform_outcomes(task.test)["SKIP"].loss
    hard_gain = skip - np.asarray(episode.nll, float).mean(axis=-1)  # S B
    spent = np.cumsum(under.reshape(len(under), -1), axis=-1)
    paid_in = each.budget * np.arange(1, spent.shape[-1] + 1)
    found = []
    for s, outcome in enumerate(outcomes(each)):
        own = rows[rows["method"] == "control"].assign(
            method="PPO", priced=equal_cost.charged(outcome, each.budget, price)
        )
        cost = float(each.test.cost[s, HERE].mean())
        found.append(
            {
                "stream": task.stream,
                "budget": each.budget,
                "seed": s,
                "share": equal_cost.captured(pd.concat([rows, own]), "PPO", seed=s).share,
                "trained_cost": float(trained[s]),
                "trained_error": budget_error(float(trained[s]), each.budget),
                "validation_cost": float(each.validation.cost[s, HERE].mean()),
                "cost": cost,
                "error": budget_error(cost, each.budget),
                "gain": by_source(skip - outcome.loss, task.test.texts),
                "hard_cost": float(under[s].mean()),
                "hard_gain": by_source(hard_gain[s], task.test.texts),
                "violations": int((spent[s] > paid_in + 1e-3).sum()),
            }
        )
    return pd.DataFrame(found)


def versus(documents: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """PPO against each rival on the same documents, permutation tests; Holm over all of them."""
    rows = []
    for (stream, budget), part in documents.groupby(["stream", "budget"], sort=False):
        for method in part["method"].unique():
            if method in ("PPO", "oracle", "control"):
                continue
            gained = equal_cost.gain(part, "PPO", method, seed=seed)
            row = {"stream": stream, "budget": budget, "method": method, "gain": gained.mean}
            p = equal_cost.permutation_p(part, "PPO", method, seed=seed)
            rows.append(row | gained._asdict() | {"p": p})
    table = pd.DataFrame(rows).drop(columns="mean")
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def history(task: AllocationTask, each: Learned, form: str) -> pd.DataFrame:
    """Every recorded quantity: a row for each seed and iteration. Costs are of the decisions."""
    shape = each.history.cost.shape
    seed, iteration = (index.reshape(-1) for index in np.indices(shape))
    numbers = {
        name: np.asarray(getattr(each.history, name)).reshape(-1).round(6) for name in QUANTITIES
    }
    mix = np.asarray(each.history.action_mix).reshape(-1, len(CHUNK_ACTIONS.names)).round(5)
    return pd.DataFrame(
        {
            "stream": task.stream,
            "budget": each.budget,
            "form": form,
            "seed": seed,
            "iteration": iteration + 1,
        }
        | numbers
        | {name: mix[:, a] for a, name in enumerate(CHUNK_ACTIONS.names)}
    )


def thinned(history: pd.DataFrame) -> pd.DataFrame:
    """`KEPT` iterations of each seed, evenly from the first to the last; all where they are fewer.

    >>> len(thinned(pd.DataFrame({"iteration": range(1, 1001)})))
    93
    """
    last = int(history["iteration"].max())
    kept = np.unique(np.linspace(1, last, KEPT).round().astype(int))
    return history[history["iteration"].isin(kept)]


def spread(history: pd.DataFrame) -> pd.DataFrame:
    """A row for each seed: deviation of the violation over the second half of all iterations."""
    late = history[history["iteration"] > history["iteration"].max() / 2]
    grouped = late.groupby(["stream", "budget", "form", "seed"], sort=False)["violation"]
    return grouped.std(ddof=0).rename("deviation").reset_index()


def ablated(task: AllocationTask, found: Mapping[str, Learned], control: Curve) -> pd.DataFrame:
    """Rows as those of `documents`, of policies without one group of features, mean over seeds."""
    outcomes = {group: {each.budget: mean_outcome(each)} for group, each in found.items()}
    rows = equal_cost.documents(task, outcomes, control)
    return rows[rows["method"] != "oracle"]


def ablation(documents: pd.DataFrame, ablated: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The gap captured without each group of features, and what is lost by it.

    The row of `none` is PPO's of `gaps`.
    """
    place = {key: ablated[key].iloc[0] for key in ("stream", "budget")}
    here = (documents[list(place)] == pd.Series(place)).all(axis=1)
    part = pd.concat([documents[here], ablated])
    rows = []
    for group in ("none", *ablated["method"].unique()):
        method = "PPO" if group == "none" else group
        gap = equal_cost.captured(part, method, seed=seed)
        lost = equal_cost.gain(part, "PPO", method, seed=seed)
        rows.append(
            place
            | {"without": group}
            | gap._asdict()
            | {"lost": lost.mean, "lost_low": lost.low, "lost_high": lost.high}
        )
    return pd.DataFrame(rows)


def strip(task: AllocationTask, each: Learned, tokenizer_name: str) -> pd.DataFrame:
    """What seed 0 does with one test document of each source, with its text; a row a unit."""
    part = task.test
    tokenizer = get_tokenizer(tokenizer_name)
    episode = run_with_hard_budget(each, part)
    never = part.environment.run(UniformPolicy("SKIP"), key=jax.random.key(0))
    skip = np.asarray(never.token_nll)
    tokens = np.asarray(part.texts.corpus.documents.tokens)
    rows = []
    for i in part.texts.first_of_each(1):
        for n in range(task.units):
            action = CHUNK_ACTIONS.names[int(episode.action[0, i, n])]
            rows.append(
                {
                    "source": part.texts.sources[i],
                    "path": part.texts.paths[i],
                    "unit": n,
                    "action": action,
                    "value": float(episode.value[0, i, n]),
                    "skip_loss": float(skip[i, n].mean()),
                    "loss": float(episode.nll[0, i, n]),
                    "pieces": tokenizer.batch_decode([[token] for token in tokens[i, n].tolist()]),
                    "token_loss": np.asarray(episode.token_nll[0, i, n]).round(4).tolist(),
                    "token_skip": skip[i, n].round(4).tolist(),
                }
            )
    return pd.DataFrame(rows)
