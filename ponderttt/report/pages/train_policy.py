"""A training run in two charts: what `ponderttt train-policy` wrote, as pictures and as pages."""

import sys
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from ponderttt.checks import shown
from ponderttt.errors import InputError
from ponderttt.parsing import read_json
from ponderttt.report.display import renderer
from ponderttt.storage import writable_folder

PANELS = {
    "reward": "gain on the next unit (nats per token)",
    "cost": "cost (nominal, mean per unit)",
    "multiplier": "price of a unit of cost",
    "entropy": "entropy of the policy (nats)",
    "kl": "KL from the collecting policy",
    "explained_variance": "variance explained by the critic",
}


def save(results_file: Path, output_dir: Path) -> list[Path]:
    """Write training_history and action_distribution to `output_dir`, .png and .html."""
    results = _read(results_file)
    folder = writable_folder(output_dir)
    renderer.enable()
    charts = {"training_history": history(results), "action_distribution": actions(results)}
    return renderer.save_pictures(charts, folder)


def _read(path: Path) -> dict[str, Any]:
    """What `path` says, whose every part that is drawn has been looked at."""
    expected = "the results.json that ponderttt train-policy wrote"
    results = read_json(path, expected)
    if wrong := _wrong(results):
        raise InputError(f"{path} is no result of a training run: {wrong}; expected {expected}")
    return results


def _wrong(results: Any) -> str | None:
    """What keeps `results` from being drawn."""
    if not isinstance(results, dict):
        return f"it holds {shown(results)}"
    config, names, seeds = (results.get(key) for key in ("config", "actions", "seeds"))
    if not isinstance(config, dict) or not _is_number(config.get("budget")):
        return "config has no budget"
    if not isinstance(names, list) or not names or not all(isinstance(x, str) for x in names):
        return f"actions is {shown(names)}, not names"
    if not isinstance(seeds, dict) or not seeds:
        return f"seeds is {shown(seeds)}, not histories"
    for seed, history in seeds.items():
        rows = history.get("reward") if isinstance(history, dict) else None
        if not isinstance(rows, list) or not rows:
            return f"seed {shown(seed)} has no rewards"
        for name in PANELS:
            if not _are_numbers(history.get(name), len(rows)):
                return f"{name} of seed {shown(seed)} is not {len(rows)} numbers"
        mix = history.get("action_mix")
        if not isinstance(mix, list) or len(mix) != len(rows):
            return f"action_mix of seed {shown(seed)} is not {len(rows)} rows"
        if not all(_are_numbers(row, len(names)) for row in mix):
            return f"action_mix of seed {shown(seed)} has rows of other than {len(names)} numbers"
    return None


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    """NaN and infinity are: a chart leaves them out. What no float holds is not."""
    return type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)


def history(results: dict[str, Any]) -> alt.ConcatChart:
    """Every recorded quantity over the iterations, one line a seed."""
    budget = results["config"]["budget"]
    frames = [
        pd.DataFrame({"seed": seed, "iteration": range(1, len(h["reward"]) + 1)}
                     | {name: h[name] for name in PANELS})
        for seed, h in results["seeds"].items()
    ]  # fmt: skip
    data = pd.concat(frames)
    count = int(data["iteration"].max())
    panels = []
    for name, title in PANELS.items():
        line = (
            alt.Chart(data[["seed", "iteration", name]])
            .mark_line(strokeWidth=1.6, color=renderer.BLUE, point=count < 30)
            .encode(
                x=alt.X("iteration:Q", axis=alt.Axis(format="d", tickMinStep=1)),
                y=alt.Y(f"{name}:Q", title=title, scale=alt.Scale(zero=False)),
                detail="seed:N",
                opacity=alt.value(1.0 if len(frames) == 1 else 0.5),
                tooltip=["seed:N", "iteration:Q", alt.Tooltip(f"{name}:Q", format=".4f")],
            )
        )
        rule = (
            alt.Chart(alt.InlineData(values=[{}]))
            .mark_rule(strokeDash=[4, 4], color=renderer.VERMILION)
            .encode(y=alt.datum(budget))
        )
        layers = [line, rule] if name == "cost" else [line]
        panels.append(alt.layer(*layers).properties(width=250, height=150))
    return alt.concat(*panels, columns=3).properties(
        title=alt.Title(
            "Does the policy learn, and does it keep its budget?",
            subtitle=f"{len(frames)} seed(s). Dashed: the budget of {budget:g} a unit.",
        )
    )


def actions(results: dict[str, Any]) -> alt.Chart:
    """Share of each action over the iterations, mean over seeds."""
    names = results["actions"]
    rows = [
        (i + 1, name, order, float(share))
        for h in results["seeds"].values()
        for i, mix in enumerate(h["action_mix"])
        for order, (name, share) in enumerate(zip(names, mix, strict=True))
    ]
    data = pd.DataFrame(rows, columns=["iteration", "action", "order", "share"])
    means = data.groupby(["iteration", "action", "order"])["share"].mean().reset_index()
    return (
        alt.Chart(means)
        .mark_bar()
        .encode(
            x=alt.X("iteration:O", title="iteration", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("share:Q", title="share of units", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color(
                "action:N",
                title=None,
                scale=renderer.action_scale(names),
            ),
            order="order:Q",
            tooltip=["iteration:O", "action:N", alt.Tooltip("share:Q", format=".3f")],
        )
        .properties(
            width=420,
            height=220,
            title=alt.Title("What does the policy do?", subtitle="Mean over seeds."),
        )
    )
