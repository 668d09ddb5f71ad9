"""The comparison page in numbers."""

import numpy as np

from ponderttt.report.display import markdown
from ponderttt.report.display.claims import signed_interval
from ponderttt.report.pages.comparison.names import AGAINST, label
from ponderttt.result import Result


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def methods(result: Result) -> markdown.Markdown:
    """Loss, steps and costs of every method, its random control behind it."""
    table = result.tables["methods"]
    records = table.to_dict("records")
    losses = [
        [
            label(str(row["method"])),
            _number(row["target"], "g"),
            f"{row['steps']:.2f}",
            f"{row['fewest_steps']:.2f} to {row['most_steps']:.2f}",
            f"{row['document_loss']:.3f}",
            f"[{row['low']:.3f}, {row['high']:.3f}]",
            f"{row['test_loss']:.3f}",
            f"{row['iqm']:.3f}",
            _number(row["uninformed_loss"], ".3f"),
            f"{row['perplexity']:.1f}",
        ]
        for row in records
    ]
    costs = [
        [
            label(str(row["method"])),
            f"{row['adapter_flops'] / 1e6:.3f}",
            f"{row['model_flops'] / 1e6:.3f}",
            f"{row['microseconds']:.1f}",
            f"{row['flops_reduction']:+.1%}",
        ]
        for row in records
    ]
    loss_heads = (
        "method", "target K", "mean K", "of seeds", "loss by text", "95 %", "test loss", "IQM",
        "same K for all", "perplexity",
    )  # fmt: skip
    cost_heads = ("method", "adapter MFLOP", "model MFLOP", "µs", "saved over K = 4")
    scalars, areas = result.scalars, result.tables["frontier"].groupby("ledger")["area"].first()
    return markdown.join(
        f"**{scalars['num_params']:,} trainable parameters in every method**, trained on "
        f"{scalars['train_tokens']:,} tokens; {len(result.config['seeds'])} seeds, "
        f"{scalars['test_documents']} test documents, {scalars['test_tokens']:,} test tokens. "
        f"Untrained perplexity: {scalars['untrained_perplexity']:,.0f}.",
        markdown.table(loss_heads, losses),
        "Nats a token. *Loss by text*: the mean of texts, with its 95 % interval over texts and "
        "seeds; *test loss*: the mean of tokens, which perplexity is of; IQM: interquartile mean "
        "of the seeds' test losses; *of seeds*: their least and most mean K. *Same K for all*: the "
        "test loss at that mean K on the line through the uniform methods.",
        markdown.table(cost_heads, costs),
        "Costs a token. FLOPs count K "
        "steps taken one by one (an expectation takes them all); the closed form of linear fast "
        "weights takes any K at one price, so µs do not follow them. Area under the frontier, in "
        "nats of loss below the worst method: "
        + ", ".join(f"{str(name).replace('_', ' ')} {area:.4f}" for name, area in areas.items())
        + ".",
    )


def tests(result: Result) -> markdown.Markdown:
    """Paired tests with their corrections, effect sizes and power."""
    table = result.tables["tests"]
    if not len(table):
        return markdown.Markdown("No method here has another to be compared with.\n")
    rows = [
        [
            row["method"],
            AGAINST[row["against"]],
            *_difference(row),
            f"{row['seeds_better']} of {row['seeds']}",
            _number(row["seed_p"], ".2g"),
            f"{row['wilcoxon_p']:.2g}",
            f"{row['holm_p']:.2g}",
            f"{row['bonferroni_p']:.2g}",
            f"{row['cohens_d']:+.2f}",
            f"{row['cliffs_delta']:+.2f}",
            f"{row['improvement']:.0%}",
            _number(row["power"], ".0%"),
        ]
        for row in table.to_dict("records")
    ]
    heads = (
        "method", "against", "difference", "95 %", "seeds better", "p, seeds", "p, pairs", "Holm",
        "Bonferroni", "d", "δ", "better", "power",
    )  # fmt: skip
    return markdown.join(
        "**Difference of loss** in thousandths of a nat a token, below zero where the method is "
        "better, with 95 % intervals that resample both seeds and texts.",
        markdown.table(heads, rows, left=2),
        "*p, seeds*: all flips of the signs of the seeds' mean differences. *p, pairs*: the "
        "signed-rank test that takes every seed and text for a sample, which they are not where a "
        "seed's run is better on all texts: it is what is often printed. Holm and "
        "Bonferroni correct the first over the methods of one contrast (the second, where there is "
        "one seed). d: paired Cohen's d; δ: Cliff's delta; better: share of pairs. Power: the "
        "chance of seeing 5 thousandths of a nat, given the spread over seeds and texts.",
    )


def _difference(row: dict) -> tuple[str, str]:
    said = signed_interval(*(1e3 * row[key] for key in ("mean", "low", "high")), digits=1)
    effect, _, interval = said.partition(" ")
    return effect, interval


def efficiency(result: Result) -> markdown.Markdown:
    """Seconds against FLOPs at each K, for both fast weights; what deciding costs."""
    table = result.tables["efficiency"]
    rows = [
        [
            row["fast_weight"],
            row["steps"],
            f"{row['microseconds']:.1f}",
            f"{row['adapter_flops'] / 1e6:.3f}",
            f"{row['model_flops'] / 1e6:.3f}",
            f"{row['policy_in_steps']:.2f}",
            f"{row['lstm_in_steps']:.1f}",
        ]
        for row in table.to_dict("records")
    ]
    heads = (
        "fast weights", "K", "µs a token", "adapter MFLOP", "model MFLOP",
        "a decision, in steps", "bidirectional LSTM, in steps",
    )  # fmt: skip
    return markdown.join(
        markdown.table(heads, rows, left=2),
        "Median of readings of one batch, scores included, all ways in turns; FLOPs of plain steps "
        "at the mean K of the row, without the decision. The programs take fewer: linear fast "
        "weights any K in closed form, mlp ones by factors, but they pay the largest K that there "
        "is at every token. *A decision* is one of the halting "
        "network at one layer. The bidirectional LSTM is the policy that was first proposed for "
        "this: it sees later tokens, so it is an ablation of cost alone, and in no comparison.",
    )
