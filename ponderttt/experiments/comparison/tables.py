"""From what was read to tidy tables. Losses in nats a token; a document is a text of the source."""

from typing import Any

import numpy as np
import pandas as pd

from ponderttt.evaluation.metrics import compute_pareto_frontier, frontier_area
from ponderttt.evaluation.paired import iqm
from ponderttt.evaluation.statistics import two_way_interval
from ponderttt.evaluation.token_costs import (
    halting_flops,
    readout_flops,
    token_ledgers,
    ttt_layer_flops,
)
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import RANDOM, spec_of
from ponderttt.experiments.comparison.timing import ROWS
from ponderttt.experiments.comparison.training import Texts, Trained
from ponderttt.models.iterative.config import IterativeTransformerConfig
from ponderttt.training.language import Kind

UNIFORM = ("uniform_k1", "uniform_k2", "uniform_k4", "uniform_k8")


def kind_of(name: str) -> Kind:
    """How a method, or a random control, decides."""
    return "mixture" if name.startswith(RANDOM) else spec_of(name).kind


def documents(config: ComparisonConfig, found: dict[str, Trained], texts: Texts) -> pd.DataFrame:
    """A row for each method, seed and test document: means over its tokens of loss and steps."""
    mask, titles = texts.test.mask, np.asarray(texts.test.titles)
    names, member = np.unique(titles, return_inverse=True)
    tokens = np.bincount(member, mask.sum(axis=1))

    def means(values: np.ndarray) -> np.ndarray:  # [M T] -> a document's mean over its tokens
        return np.bincount(member, np.where(mask, values, 0).sum(axis=1)) / tokens

    rows = [
        pd.DataFrame(
            {
                "method": name,
                "seed": seed,
                "document": names,
                "tokens": tokens.astype(int),
                "loss": means(trained.test_nll[s]),
                "steps": means(trained.test_steps[s].mean(axis=0)),
            }
        )
        for name, trained in found.items()
        for s, seed in enumerate(config.seeds)
    ]
    return pd.concat(rows, ignore_index=True)


def seeds(model: IterativeTransformerConfig, documents: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and seed: loss, steps, and what they cost a token.

    An expectation over K is charged for the most steps: it needs all of them.
    """
    k4 = float(token_ledgers(model, 4.0, decision=0.0).model)
    rows = []
    for (name, seed), here in documents.groupby(["method", "seed"], sort=False):
        kind = kind_of(str(name))
        steps, loss = _token_mean(here, "steps"), _token_mean(here, "loss")
        charged = float(model.max_steps) if kind == "expected" else steps
        costs = token_ledgers(model, charged, decision=_decision(model, kind))
        rows.append(
            {
                "method": name,
                "seed": seed,
                "test_loss": loss,
                "perplexity": float(np.exp(loss)),
                "steps": steps,
                "nominal": charged,
                "adapter_flops": float(costs.adapter),
                "model_flops": float(costs.model),
                "flops_reduction": 1 - float(costs.model) / k4,
            }
        )
    return pd.DataFrame(rows)


def methods(
    found: dict[str, Trained], documents: pd.DataFrame, seeds: pd.DataFrame, texts: Texts
) -> pd.DataFrame:
    """A row for each method: means over seeds, loss by document with its interval, spread of K."""
    rows = []
    real = texts.validation.mask
    for name, trained in found.items():
        here = documents[documents["method"] == name]
        interval = two_way_interval(
            here.pivot(index="seed", columns="document", values="loss").to_numpy()
        )
        own = seeds[seeds["method"] == name]
        costs = own[["nominal", "adapter_flops", "model_flops", "flops_reduction"]].mean()
        steps, loss = float(own["steps"].mean()), float(own["test_loss"].mean())
        target = None if name.startswith(RANDOM) else spec_of(name).target
        rows.append(
            {
                "method": name,
                "kind": kind_of(name),
                "target": np.nan if target is None else target,
                "validation_steps": float(trained.validation_steps[..., real].mean()),
                "steps": steps,
                "fewest_steps": float(own["steps"].min()),
                "most_steps": float(own["steps"].max()),
                "test_loss": loss,
                "perplexity": float(np.exp(loss)),
                "document_loss": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "iqm": iqm(own["test_loss"]),
                "uninformed_loss": _uninformed(seeds, steps),
                "seeds": interval.seeds,
                "documents": interval.documents,
            }
            | costs.to_dict()
        )
    return pd.DataFrame(rows)


def _token_mean(rows: pd.DataFrame, column: str) -> float:
    return float(np.average(rows[column], weights=rows["tokens"]))


def _decision(model: IterativeTransformerConfig, kind: Kind) -> float:
    """FLOPs a token of deciding, all TTT layers together."""
    if kind == "mixture":
        return 0.0
    if kind in ("learned", "expected"):
        return len(model.ttt_layer_indices) * halting_flops(model)
    return ttt_layer_flops(model).step if kind == "gradient_norm" else readout_flops(model)


def _uninformed(seeds: pd.DataFrame, steps: float) -> float:
    """The loss of the same steps for all tokens, between the two nearest uniform methods."""
    mean = seeds.groupby("method")["test_loss"].mean()
    known = [name for name in UNIFORM if name in mean]
    k = [int(name.removeprefix("uniform_k")) for name in known]
    if not known or not min(k) <= steps <= max(k):
        return float("nan")
    return float(np.interp(steps, k, mean[known]))


def timed(
    config: ComparisonConfig, methods: pd.DataFrame, efficiency: pd.DataFrame
) -> pd.DataFrame:
    """`methods` with `microseconds` a token: measured with its own way of deciding."""
    measured = efficiency[efficiency["fast_weight"] == config.fast_weight]
    seconds = measured.set_index("steps")["microseconds"]
    rows = [
        f"K{round(steps)}" if method.startswith("uniform") else ROWS[kind]
        for method, kind, steps in zip(
            methods["method"], methods["kind"], methods["steps"], strict=True
        )
    ]
    return methods.assign(microseconds=seconds[rows].to_numpy())


def frontier(methods: pd.DataFrame) -> pd.DataFrame:
    """In each ledger: which methods no other beats in cost and loss, and the frontier's area."""
    rows = []
    for ledger in ("nominal", "adapter_flops", "model_flops", "microseconds"):
        costs, losses = methods[ledger].to_numpy(), methods["test_loss"].to_numpy()
        best = set(compute_pareto_frontier(costs, losses).tolist())
        area = float("nan")
        if np.ptp(costs) > 0:
            area = frontier_area(
                costs, losses, low=costs.min(), high=costs.max(), reference=losses.max()
            )
        for i, name in enumerate(methods["method"]):
            rows.append((ledger, name, costs[i], losses[i], i in best, area))
    columns = ["ledger", "method", "cost", "test_loss", "on_frontier", "area"]
    return pd.DataFrame(rows, columns=columns)


def allocation(
    config: ComparisonConfig,
    model: IterativeTransformerConfig,
    found: dict[str, Trained],
    texts: Texts,
) -> pd.DataFrame:
    """Share of each option in each TTT layer, over the test tokens of each method and seed."""
    rows = []
    for name, trained in found.items():
        mixed = kind_of(name) == "expected"
        for number, index in enumerate(model.ttt_layer_indices):
            for s, seed in enumerate(config.seeds):
                taken = trained.test_steps[s, number][texts.test.mask]
                for option in model.step_options:
                    share = float("nan") if mixed else float((taken == option).mean())
                    rows.append((name, seed, index, option, share, float(taken.mean())))
    columns = ["method", "seed", "layer", "option", "share", "mean_steps"]
    return pd.DataFrame(rows, columns=columns)


def history(config: ComparisonConfig, found: dict[str, Trained], points: int = 40) -> pd.DataFrame:
    """Training curves: means over seeds of so many stretches of steps."""
    rows = []
    for name, trained in found.items():
        parts = np.array_split(np.arange(config.steps), min(points, config.steps))
        for part in parts:
            row: dict[str, Any] = {"method": name, "step": int(part[-1]) + 1}
            for field in ("loss", "steps", "entropy", "price"):
                row[field] = float(getattr(trained, field)[:, part].mean())
            rows.append(row)
    return pd.DataFrame(rows)


def strip(found: dict[str, Trained], texts: Texts) -> pd.DataFrame:
    """The first whole test window, token by token: loss, and the steps taken once it was read.

    Under each method that looks at the text, first seed. The steps on token t stand at position
    t + 1 of what was read: the position before the first is the window's start.
    """
    whole = np.flatnonzero(texts.test.mask.all(axis=1))
    row = int(whole[0]) if len(whole) else 0
    ids = texts.test.tokens[row][texts.test.mask[row]][:-1]
    words = [texts.corpus.tokenizer.decode([int(i)]) for i in ids]
    columns = ["token", "position", "method", "steps", "loss", "document"]
    rows = []
    for name, trained in found.items():
        if kind_of(name) == "mixture":
            continue
        frame = pd.DataFrame({"token": words, "position": np.arange(len(words))})
        rows.append(
            frame.assign(
                method=name,
                steps=trained.test_steps[0, :, row].mean(axis=0)[1 : len(words) + 1],
                loss=trained.test_nll[0, row, : len(words)],
                document=texts.test.titles[row],
            )
        )
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)
