"""Policies beside one another at equal cost, in tables.

What a method costs on the test documents is reported; its loss at exactly the budget is read off
its own cost curve. `gain` makes every interval at equal cost, and `captured` every share of the
gap; both are functions of the table of `documents`, so that a record is enough to make them anew.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from ponderttt.allocation import oracle
from ponderttt.allocation.calibration import CURVE, Calibrated, Outcome, uniform_outcomes
from ponderttt.allocation.gap import Gap, at_cost, gap_captured
from ponderttt.allocation.stream import AllocationTask, by_source
from ponderttt.evaluation.paired import holm, paired_test
from ponderttt.evaluation.statistics import Interval, interval_by_source
from ponderttt.types import CHUNK_ACTIONS


def points(found: Sequence[Calibrated], task: AllocationTask) -> pd.DataFrame:
    """A row for each candidate at each budget; the first of each is the one that was chosen."""
    valid, test = task.validation.texts, task.test.texts
    rows, seen = [], set()
    for each in found:
        place = (each.method, each.budget)
        rows.append(
            {
                "stream": task.stream,
                "method": each.method,
                "budget": each.budget,
                "candidate": each.candidate,
                "chosen": place not in seen,
                "validation_cost": float(each.validation.cost.mean()),
                "validation_loss": by_source(each.validation.loss, valid),
                "cost": float(each.test.cost.mean()),
                "loss": by_source(each.test.loss, test),
            }
        )
        seen.add(place)
    return pd.DataFrame(rows)


class Curve(Outcome):
    """A method's own cost curve on the test documents: its outcome at P points."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> "Curve":
        """Through these points."""
        return cls(*(np.stack(each) for each in zip(*outcomes, strict=True)))

    def interpolate(self, budget: float) -> Outcome:
        """Each document at exactly this mean cost; NaN out of the curve's reach."""
        means = self.cost.mean(axis=-1)
        return Outcome(*(np.asarray(at_cost(means, values, budget)) for values in self))


def curves(found: Sequence[Calibrated]) -> dict[str, Curve]:
    """One a method, of the candidates that were chosen."""
    chosen: dict[str, dict[float, Outcome]] = {}
    for each in found:
        chosen.setdefault(each.method, {}).setdefault(each.budget, each.test)
    return {name: Curve.of(list(outcomes.values())) for name, outcomes in chosen.items()}


def documents(
    task: AllocationTask, outcomes: Mapping[str, Mapping[float, Outcome]], control: Curve
) -> pd.DataFrame:
    """A row for each method, budget and test document: what it got at exactly the budget.

    `outcomes` are by method and budget; the oracle is added. `price` is what a unit of cost gains
    `control` there (nats a token), and `priced` the loss after `charged`.
    """
    part, texts = task.test, task.test.texts
    skip = uniform_outcomes(part)["SKIP"].loss
    found, units = part.environment.allocations(), task.units
    budgets = list(next(iter(outcomes.values())))
    prices = {budget: _price(control, budget) for budget in budgets}
    chosen = {budget: oracle.at_budget(found, budget, units) for budget in budgets}
    taken = np.asarray(CHUNK_ACTIONS.steps)
    best = {
        b: Outcome(each.loss / units, each.cost / units, (each.mix @ taken).mean(axis=-1))
        for b, each in chosen.items()
    }
    frames = []
    for method, at in {**outcomes, "oracle": best}.items():
        for budget in budgets:
            loss, cost, steps = at[budget]
            frame = {
                "stream": task.stream,
                "budget": budget,
                "method": method,
                "source": texts.sources,
                "path": texts.paths,
                "document": np.arange(len(texts)),
                "loss": loss,
                "cost": cost,
                "steps": steps,
                "price": prices[budget],
                "priced": charged(at[budget], budget, prices[budget]),
                "gain": skip - loss,
            }
            frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def _price(control: Curve, budget: float) -> float:
    """What a unit of cost gains the control around this budget, nats a token."""
    means = control.cost.mean(axis=-1)
    less, more = np.clip([0.9 * budget, 1.1 * budget], means.min(), means.max())
    saved = control.interpolate(less).loss.mean() - control.interpolate(more).loss.mean()
    return max(0.0, float(saved / (more - less)))


def charged(outcome: Outcome, budget: float, price: float) -> Float[np.ndarray, "*points B"]:
    """`loss + price (cost - budget)`: each document pays for its own cost beyond the budget.

    Over all documents methods cost the same; by this they do on any resample of them too.
    """
    return outcome.loss + price * (outcome.cost - budget)


def _priced(rows: pd.DataFrame) -> pd.DataFrame:
    """[document, method] of one stream and budget; a row that is there twice counts once."""
    once = rows.drop_duplicates(["document", "method"])
    return once.pivot(index=["document", "source"], columns="method", values="priced")


def gain(rows: pd.DataFrame, method: str, over: str, *, seed: int) -> Interval:
    """What `method` saves over another at equal cost, with its interval (nats a token).

    `rows` are those of one stream and budget of the table of `documents`, or of one source there.
    The mean over sources of the documents' paired differences of `priced`; the bootstrap resamples
    whole documents within their source.
    """
    priced = _priced(rows)
    sources = priced.index.get_level_values("source")
    return interval_by_source(priced[over] - priced[method], sources, seed=seed)


def captured(rows: pd.DataFrame, method: str, *, seed: int) -> Gap:
    """The share of the gap that `method` captures at equal cost; `rows` and interval as `gain`."""
    priced = _priced(rows)
    policy, control, best = (priced[m].to_numpy() for m in (method, "control", "oracle"))
    sources = priced.index.get_level_values("source").to_numpy()
    return gap_captured(policy, control, best, sources, seed=seed)


def permutation_p(rows: pd.DataFrame, method: str, over: str, *, seed: int) -> float:
    """The permutation test's p of the same paired differences; NaN where one is unknown."""
    priced = _priced(rows)
    if not np.isfinite(priced[[method, over]]).all(axis=None):
        return np.nan
    return paired_test(priced[method], priced[over], seed=seed).permutation_p


def gaps(table: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """What each method captures of the gap (`share`) and gains over the control, with intervals.

    `table` is that of `documents`, with a control. p-values are of a permutation test against the
    control, after Holm over the methods of a stream and budget.
    """
    rows = []
    for (stream, budget), part in table.groupby(["stream", "budget"], sort=False):
        here = []
        for method in part["method"].unique():
            if method == "control":
                continue
            gained = gain(part, method, "control", seed=seed)
            row = {"stream": stream, "budget": budget, "method": method}
            row |= captured(part, method, seed=seed)._asdict()
            row |= {"gain": gained.mean, "gain_low": gained.low, "gain_high": gained.high}
            tested = method != "oracle"
            row["p"] = permutation_p(part, method, "control", seed=seed) if tested else np.nan
            here.append(row)
        adjusted = holm(np.array([row["p"] for row in here], float))
        rows += [row | {"p_holm": p} for row, p in zip(here, adjusted, strict=True)]
    return pd.DataFrame(rows)


def interpolate(
    curves: Mapping[str, Curve], budgets: Sequence[float]
) -> dict[str, dict[float, Outcome]]:
    """By method and budget, read off each method's own cost curve."""
    return {name: {b: curve.interpolate(b) for b in budgets} for name, curve in curves.items()}


def num_documents(table: pd.DataFrame) -> int:
    """Different test documents in a table with `source` and `path`: streams share some."""
    return len(table[["source", "path"]].drop_duplicates())


def frontier(task: AllocationTask) -> pd.DataFrame:
    """Mean loss against mean cost on the test documents: the oracle, and every fixed action."""
    part = task.test
    found = part.environment.allocations()
    rows = []
    for budget in (1.0, *CURVE):
        best = oracle.at_budget(found, budget, task.units)
        rows.append(("oracle", best.cost / task.units, best.loss / task.units))
    rows += [(name, fixed.cost, fixed.loss) for name, fixed in uniform_outcomes(part).items()]
    return pd.DataFrame(
        [
            (task.stream, name, float(cost.mean()), by_source(loss, part.texts))
            for name, cost, loss in rows
        ],
        columns=["stream", "method", "cost", "loss"],
    )
