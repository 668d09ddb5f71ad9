"""The tidy tables of the repositories' page, from the losses of every token."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ponderttt.evaluation.by_position import binned, by_bin, by_document, over_documents
from ponderttt.evaluation.flops import forward_flops
from ponderttt.evaluation.statistics import interval_by_source
from ponderttt.experiments.repositories.conditions import (
    BASE,
    BOTH,
    CACHE,
    CARRIED,
    PLAIN,
    RESET,
    SHUFFLED,
)
from ponderttt.models.decoder.config import DecoderConfig
from ponderttt.prepare.recipes import Recipe
from ponderttt.prepare.repositories import PROSE, Repository

PAIRS = ((CARRIED, RESET), (CARRIED, SHUFFLED), (CARRIED, PLAIN), (CARRIED, CACHE), (BOTH, CACHE))
"""Conditions whose gains are compared, repository by repository; shuffled files have no last
third."""
HERE, BEFORE, NEVER = "earlier in this file", "in earlier files only", "never before"
_FILES = 4
_UNITS = 12
"""Most units of a file that the explorer shows."""
_GAINERS = 40


@dataclass(frozen=True)
class Losses:
    """Test repositories, and of each the losses [N * U] under every condition."""

    repositories: list[Repository]
    by_condition: dict[str, dict[str, np.ndarray]]
    vocabulary: int

    def __iter__(self):
        return ((each, self.by_condition[each.title]) for each in self.repositories)

    @property
    def tokens_read(self) -> int:
        """How many tokens were predicted."""
        return int(sum(np.sum(np.asarray(each.document.mask)) for each in self.repositories))


def bins(read: Losses) -> pd.DataFrame:
    """One row per repository, condition and twelfth: sums over its tokens."""
    found = []
    for repository, by_condition in read:
        mask = np.asarray(repository.document.mask).ravel()
        for condition, losses in by_condition.items():
            found.append(
                binned(losses, by_condition[BASE], mask).assign(
                    source=repository.source, repository=repository.name, condition=condition
                )
            )
    return pd.concat(found, ignore_index=True)


def gains(table: pd.DataFrame, *, seed: int) -> dict[str, pd.DataFrame]:
    """By repository, by source and for all code, by position, and in pairs."""
    documents = by_document(table, ["source", "repository", "condition"])
    is_prose = documents["source"].isin(PROSE)
    code = documents[~is_prose]
    found = []
    for part, whole in ((code, True), (documents[is_prose], False)):
        for column in ("gain", "gain_first", "gain_second", "gain_last"):
            if part.empty:
                continue
            rows = over_documents(part, ["condition"], column, seed=seed)
            rows = rows if whole else rows[rows["source"] != "all"]
            found.append(rows.rename(columns={column: "gain"}).assign(part=column[5:] or "whole"))
    return {
        "documents": documents,
        "gains": pd.concat(found, ignore_index=True),
        "positions": by_bin(table[~table["source"].isin(PROSE)], ["condition"], seed=seed),
        "paired": paired(code, seed=seed),
    }


def paired(documents: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The difference of the gains of two conditions, over repositories read in both."""
    rows = []
    for first, second in PAIRS:
        parts = (
            {"whole": "gain"}
            if SHUFFLED in (first, second)
            else {"whole": "gain", "last": "gain_last"}
        )
        for part, column in parts.items():
            gap = difference(documents, first, second, column)
            if gap.empty:
                continue
            interval = interval_by_source(gap, gap.index.get_level_values("source"), seed=seed)
            rows.append(
                {"condition": first, "against": second, "part": part, "gain": interval.mean}
                | interval._asdict()
            )
    return pd.DataFrame(rows).drop(columns="mean")


def difference(documents: pd.DataFrame, first: str, second: str, column: str = "gain") -> pd.Series:
    """How much more one condition gains, by source and repository: of those read in both.

    A gain that is not finite stays: what diverged is not left out of a mean.
    """
    columns = documents.set_index(["source", "repository"]).groupby("condition")[column]
    known = {name: values for name, values in columns if name in (first, second)}
    if len(known) < 2:
        return pd.Series(dtype=float)
    both = known[first].index.intersection(known[second].index, sort=False)
    return known[first][both] - known[second][both]


def files(read: Losses) -> pd.DataFrame:
    """One row per file of a repository: where it is, and its mean loss under each condition."""
    rows = []
    for repository, by_condition in read:
        unit = repository.document.tokens.shape[-1]
        for place, span in enumerate(repository.files):
            start = span.first_unit * unit
            taken = slice(start, start + span.tokens)
            rows.append(
                {
                    "source": repository.source,
                    "repository": repository.name,
                    "file": place,
                    "path": span.path,
                    "first_unit": span.first_unit,
                    "units": span.units,
                    "tokens": span.tokens,
                    **{
                        condition: float(losses[taken].mean())
                        for condition, losses in by_condition.items()
                    },
                }
            )
    return pd.DataFrame(rows)


def kinds(read: Losses, *, seed: int) -> pd.DataFrame:
    """Share of the gain by whether a token followed its predecessor before, and where.

    `gain` is a token's, `of_all` the part of the whole gain that its kind makes.
    """
    rows = []
    for repository, by_condition in read:
        if repository.source in PROSE:
            continue
        kind, mask = _seen(repository, read.vocabulary), np.asarray(repository.document.mask)
        gain = by_condition[BASE] - by_condition[CARRIED]
        for name in (HERE, BEFORE, NEVER):
            taken = (kind == name) & mask.ravel()
            some = taken.any()
            rows.append(
                {
                    "source": repository.source,
                    "kind": name,
                    "tokens": taken.sum(),
                    "share": taken.sum() / mask.sum(),
                    "loss": by_condition[BASE][taken].mean() if some else np.nan,
                    "gain": gain[taken].mean() if some else np.nan,
                    "of_all": gain[taken].sum() / mask.sum(),
                }
            )
    table = pd.DataFrame(rows)
    found = []
    for of_kind, group in table.groupby("kind", sort=False):
        held = group[group["tokens"] > 0]
        interval = interval_by_source(held["gain"], held["source"], seed=seed)
        means = group.groupby("source")[["share", "loss", "of_all"]].mean().mean()
        found.append(
            {"kind": of_kind, "gain": interval.mean} | means.to_dict() | interval._asdict()
        )
    return pd.DataFrame(found).drop(columns="mean")


def _seen(repository: Repository, vocabulary: int) -> np.ndarray:
    """Of each token, where it and its predecessor stood together before."""
    document = repository.document
    pair = np.asarray(document.inputs[0]).ravel().astype(np.int64) * vocabulary
    pair += np.asarray(document.tokens[0]).ravel()
    unit = document.tokens.shape[-1]
    begins = np.zeros(len(pair), int)
    begins[::unit] = np.asarray(document.starts)[0]
    file = np.cumsum(begins)
    frame = pd.DataFrame({"pair": pair, "file": file})
    frame = frame[np.asarray(document.mask[0]).ravel()]
    here = frame.groupby(["file", "pair"]).cumcount() > 0
    ever = frame.groupby("pair").cumcount() > 0
    kind = np.full(len(pair), "", dtype=object)
    kind[frame.index] = np.where(here, HERE, np.where(ever, BEFORE, NEVER))
    return kind


def explored(read: Losses, tokenizer: Any) -> dict[str, pd.DataFrame]:
    """The last files of the first repository of each source, and the tokens that gained most."""
    rows, gained = [], []
    done = set[str]()
    for repository, by_condition in read:
        if repository.source in done or repository.source in PROSE:
            continue
        done.add(repository.source)
        shape = repository.document.tokens.shape[1:]
        base, learned = (by_condition[condition].reshape(shape) for condition in (BASE, CARRIED))
        tokens, mask = (np.asarray(x[0]) for x in repository.document[:2])
        gained.append(_gainers(repository, tokens[mask], base[mask], learned[mask], tokenizer))
        for span in repository.files[-_FILES:]:
            for n in range(span.first_unit, span.first_unit + min(span.units, _UNITS)):
                held = mask[n]
                rows.append(
                    {
                        "source": repository.title,
                        "path": span.path,
                        "document": span.path,
                        "unit": n - span.first_unit,
                        "pieces": [tokenizer.decode([int(t)]) for t in tokens[n][held]],
                        "nll_SKIP": base[n][held].round(3).tolist(),
                        "nll_UPDATE": learned[n][held].round(3).tolist(),
                        "SKIP": float(base[n][held].mean()),
                        "UPDATE": float(learned[n][held].mean()),
                    }
                )
    return {"explorer": pd.DataFrame(rows), "gainers": pd.concat(gained, ignore_index=True)}


def _gainers(repository: Repository, tokens, base, learned, tokenizer: Any) -> pd.DataFrame:
    """The tokens whose occurrences gained most together, and what they lost before."""
    frame = pd.DataFrame({"token": tokens, "loss": base, "gain": base - learned})
    sums = frame.groupby("token").agg(
        times=("gain", "size"), loss=("loss", "mean"), gain=("gain", "sum")
    )
    best = sums.sort_values("gain", ascending=False).head(_GAINERS).reset_index()
    text = [tokenizer.decode([int(token)]) for token in best["token"]]
    return best.assign(repository=repository.title, text=text)


def flops(recipe: Recipe, config: DecoderConfig, keys: float, learns: bool) -> float:
    """FLOPs a token of the base at so many keys a query, with the recipe's own where it learns."""
    added = sum(recipe.flops(config, keys)) if learns else 0.0
    return forward_flops(config, keys) + added
