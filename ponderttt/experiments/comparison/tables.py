"""From what was read to tidy tables. Losses in nats a token; a document is a text of the source."""

from typing import Any

import numpy as np
import pandas as pd

from ponderttt.evaluation.comparison import bonferroni, holm, iqm, paired_test
from ponderttt.evaluation.iterative_costs import (
    halting_flops,
    readout_flops,
    token_ledgers,
    ttt_layer_flops,
)
from ponderttt.evaluation.metrics import compute_pareto_frontier, frontier_area
from ponderttt.evaluation.statistics import cluster_interval
from ponderttt.experiments.comparison.config import ComparisonConfig
from ponderttt.experiments.comparison.methods import RANDOM, spec_of
from ponderttt.experiments.comparison.training import Texts, Trained
from ponderttt.models.iterative_config import IterativeTransformerConfig

UNIFORM = ("uniform_k1", "uniform_k2", "uniform_k4", "uniform_k8")


def documents(config: ComparisonConfig, found: dict[str, Trained], texts: Texts) -> pd.DataFrame:
    """A row for each method, seed and test document: its loss, steps, and loss when shuffled."""
    mask, titles = texts.test.mask, np.asarray(texts.test.titles)
    names, member = np.unique(titles, return_inverse=True)
    tokens = np.bincount(member, mask.sum(axis=1))

    def means(values: np.ndarray) -> np.ndarray:  # [M T] -> a document's mean over its tokens
        return np.bincount(member, np.where(mask, values, 0).sum(axis=1)) / tokens

    rows = []
    for name, trained in found.items():
        for s, seed in enumerate(config.seeds):
            rows.append(
                pd.DataFrame(
                    {
                        "method": name,
                        "seed": seed,
                        "document": names,
                        "tokens": tokens.astype(int),
                        "loss": means(trained.test_nll[s]),
                        "shuffled": means(trained.shuffled_nll[s]),
                        "steps": means(trained.test_steps[s].mean(axis=0)),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def methods(
    config: ComparisonConfig,
    model: IterativeTransformerConfig,
    found: dict[str, Trained],
    documents: pd.DataFrame,
) -> pd.DataFrame:
    """A row for each method: loss with its interval by document, steps, and what they cost."""
    k4 = float(token_ledgers(model, 4.0, decision=0.0).model)
    rows = []
    for name in found:
        here = documents[documents["method"] == name]
        by_document = here.groupby("document")[["loss", "shuffled"]].mean()
        interval = cluster_interval([by_document["loss"].to_numpy()])
        steps, loss = _token_mean(here, "steps"), _token_mean(here, "loss")
        validation = found[name].validation_steps.mean()
        costs = token_ledgers(model, steps, decision=_decision(model, name))
        rows.append(
            {
                "method": name,
                "target": np.nan if name.startswith(RANDOM) else _target(name),
                "validation_steps": float(validation),
                "steps": steps,
                "test_loss": loss,
                "perplexity": float(np.exp(loss)),
                "document_loss": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "iqm": iqm(here.groupby("seed")["loss"].mean().to_numpy()),
                "shuffled_loss": _token_mean(here, "shuffled"),
                "uninformed_loss": _uninformed(documents, steps),
                "nominal": steps,
                "adapter_flops": float(costs.adapter),
                "model_flops": float(costs.model),
                "flops_reduction": 1 - float(costs.model) / k4,
                "seeds": len(config.seeds),
                "documents": interval.n,
            }
        )
    return pd.DataFrame(rows)


def _token_mean(rows: pd.DataFrame, column: str) -> float:
    return float(np.average(rows[column], weights=rows["tokens"]))


def _target(name: str) -> float:
    target = spec_of(name).target
    return np.nan if target is None else target


def _decision(model: IterativeTransformerConfig, name: str) -> float:
    """FLOPs a token of deciding, all TTT layers together."""
    if name.startswith(RANDOM) or not spec_of(name).adaptive:
        return 0.0
    kind = spec_of(name).kind
    if kind in ("learned", "expected"):
        return len(model.ttt_layer_indices) * halting_flops(model)
    return ttt_layer_flops(model).step if kind == "gradient_norm" else readout_flops(model)


def _uninformed(documents: pd.DataFrame, steps: float) -> float:
    """The loss of the same steps for all tokens, between the two nearest uniform methods."""
    known = [name for name in UNIFORM if name in set(documents["method"])]
    k = [int(name.removeprefix("uniform_k")) for name in known]
    if not known or not min(k) <= steps <= max(k):
        return float("nan")
    loss = [_token_mean(documents[documents["method"] == name], "loss") for name in known]
    return float(np.interp(steps, k, loss))


def tests(config: ComparisonConfig, documents: pd.DataFrame) -> pd.DataFrame:
    """Paired tests of each method against what it must beat; corrected within each contrast.

    Against `uniform_k4`; of methods that choose by token also against the random control of the
    same cost, and against their own weights with the same steps at random tokens.
    """
    contrasts: dict[str, list[tuple[str, pd.Series, pd.Series]]] = {}
    losses = documents.pivot(index=["seed", "document"], columns="method", values="loss")
    shuffled = documents.pivot(index=["seed", "document"], columns="method", values="shuffled")
    for name in config.methods:
        if "uniform_k4" in losses and name != "uniform_k4":
            pair = (name, losses[name], losses["uniform_k4"])
            contrasts.setdefault("uniform_k4", []).append(pair)
        if spec_of(name).controlled:
            pair = (name, losses[name], losses[RANDOM + name])
            contrasts.setdefault("random", []).append(pair)
            contrasts.setdefault("shuffled", []).append((name, losses[name], shuffled[name]))
    frames = [_tested(config, against, pairs) for against, pairs in contrasts.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _tested(config: ComparisonConfig, against: str, pairs: list) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name, a, b in pairs:
        level = "seed" if config.test == "seeds" else ["seed", "document"]
        x, y = (values.groupby(level).mean().to_numpy() for values in (a, b))
        by_document = (a - b).groupby("document").mean().to_numpy()
        interval = cluster_interval([by_document])
        row = paired_test(x, y)._asdict() | {"method": name, "against": against}
        row |= {"samples": row.pop("n"), "document_difference": interval.mean}
        row |= {"document_low": interval.low, "document_high": interval.high}
        by_seed = (a - b).groupby("seed").mean()
        row |= {"seeds_better": int((by_seed < 0).sum()), "documents": interval.n}
        row["power"] = power(by_document)
        rows.append(row)
    table = pd.DataFrame(rows)
    p = table["wilcoxon_p"].to_numpy()
    return table.assign(holm_p=holm(p), bonferroni_p=bonferroni(p))


def power(differences: np.ndarray, effect: float = 0.005, alpha: float = 0.05) -> float:
    """Chance that a t-test over so many documents sees a difference of `effect` nats a token."""
    from scipy.stats import nct, t

    n = len(differences)
    if n < 2 or not np.ptp(differences):
        return float("nan")
    shift = effect / differences.std(ddof=1) * np.sqrt(n)
    edge = t.ppf(1 - alpha / 2, n - 1)
    return float(nct.sf(edge, n - 1, shift) + nct.cdf(-edge, n - 1, shift))


def allocation(
    model: IterativeTransformerConfig, found: dict[str, Trained], texts: Texts
) -> pd.DataFrame:
    """Share of each option in each TTT layer of each method, over test tokens and seeds."""
    rows = []
    for name, trained in found.items():
        for number, index in enumerate(model.ttt_layer_indices):
            taken = trained.test_steps[:, number][:, texts.test.mask]
            drawn = np.isin(taken, model.step_options).all()
            for option in model.step_options:
                share = float((taken == option).mean()) if drawn else float("nan")
                rows.append((name, index, option, share, float(taken.mean())))
    return pd.DataFrame(rows, columns=["method", "layer", "option", "share", "mean_steps"])


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
    """The first whole test window, token by token: steps and loss under each adaptive method."""
    whole = np.flatnonzero(texts.test.mask.all(axis=1))
    row = int(whole[0]) if len(whole) else 0
    ids = texts.test.tokens[row][texts.test.mask[row]]
    words = [texts.corpus.tokenizer.decode([int(i)]) for i in ids]
    rows = []
    for name, trained in found.items():
        if name.startswith(RANDOM) or not spec_of(name).adaptive:
            continue
        steps = trained.test_steps[0, :, row].mean(axis=0)
        frame = pd.DataFrame({"token": words, "position": np.arange(len(words))})
        rows.append(
            frame.assign(
                method=name,
                steps=steps[: len(words)],
                loss=trained.test_nll[0, row, : len(words)],
                document=texts.test.titles[row],
            )  # fmt: skip
        )
    columns = ["token", "position", "method", "steps", "loss", "document"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def timed(
    config: ComparisonConfig, methods: pd.DataFrame, efficiency: pd.DataFrame
) -> pd.DataFrame:
    """`methods` with `microseconds` a token: of its own K, or of tokens at a K of their own."""
    measured = efficiency[efficiency["fast_weight"] == config.fast_weight]
    seconds = measured.set_index("steps")["microseconds"]
    rows = [
        f"K{round(steps)}" if method.startswith("uniform") else "mixed"
        for method, steps in zip(methods["method"], methods["steps"], strict=True)
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
