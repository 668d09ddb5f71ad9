"""The comparison page in numbers."""

import numpy as np

from ponderttt.experiments.result import Result
from ponderttt.report import markdown
from ponderttt.report.claims import signed_interval
from ponderttt.report.comparison.names import AGAINST, label


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def methods(result: Result) -> markdown.Markdown:
    """Loss, steps and costs of every method, its random control behind it."""
    table = result.tables["methods"]
    rows = [
        [
            label(str(row["method"])),
            _number(row["target"], "g"),
            f"{row['steps']:.2f}",
            f"{row['test_loss']:.4f}",
            f"{row['perplexity']:.1f}",
            _number(row["uninformed_loss"], ".4f"),
            _number(row["shuffled_loss"], ".4f"),
            f"{row['adapter_flops'] / 1e6:.3f}",
            f"{row['model_flops'] / 1e6:.3f}",
            f"{row['microseconds']:.1f}",
            f"{row['flops_reduction']:+.1%}",
        ]
        for row in table.to_dict("records")
    ]
    heads = (
        "method", "target K", "mean K", "test loss", "perplexity", "same K for all",
        "same K's shuffled", "adapter MFLOP", "model MFLOP", "µs", "saved over K = 4",
    )  # fmt: skip
    scalars, areas = result.scalars, result.tables["frontier"].groupby("ledger")["area"].first()
    return markdown.join(
        f"**{scalars['num_params']:,} trainable parameters in every method**, trained on "
        f"{scalars['train_tokens']:,} tokens; {len(result.config['seeds'])} seeds, "
        f"{scalars['test_documents']} test documents, {scalars['test_tokens']:,} test tokens. "
        f"Untrained perplexity: {scalars['untrained_perplexity']:,.0f}.",
        markdown.table(heads, rows),
        "Loss in nats a token, costs a token. *Same K for all*: the loss at that mean K on the "
        "line through the uniform methods. *Same K's shuffled*: the method's own weights, its "
        "options drawn as often at random tokens. FLOPs count K steps taken one by one; the "
        "closed form of linear fast weights takes any K at one price, so µs do not follow them. "
        "Area under the frontier, in nats of loss below the worst method: "
        + ", ".join(f"{str(name).replace('_', ' ')} {area:.4f}" for name, area in areas.items())
        + ".",
    )


def tests(result: Result) -> markdown.Markdown:
    """Paired tests with their corrections, effect sizes and power."""
    table = result.tables["tests"]
    rows = [
        [
            row["method"],
            AGAINST[row["against"]],
            signed_interval(
                *(1e3 * row[f"document_{k}"] for k in ("difference", "low", "high")), digits=1
            ).replace(" [", "<br>["),
            f"{row['seeds_better']} of {len(result.config['seeds'])}",
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
        "method", "against", "difference", "seeds better", "p", "Holm", "Bonferroni",
        "d", "δ", "better", "power",
    )  # fmt: skip
    what = "seed" if result.config["test"] == "seeds" else "seed and document"
    return markdown.join(
        "**Difference of loss** in thousandths of a nat a token, below zero where the method is "
        "better, with 95 % intervals by document.",
        markdown.table(heads, rows, left=2),
        f"p: signed-rank test, a sample is a {what}; Holm and Bonferroni over the methods of one "
        "contrast. d: paired Cohen's d; δ: Cliff's delta; better: share of samples that are. "
        "Power: the chance of seeing 5 thousandths of a nat at p < 0.05, by document.",
    )


def efficiency(result: Result) -> markdown.Markdown:
    """Seconds against FLOPs at each K, for both fast weights; what deciding costs."""
    table = result.tables["efficiency"]
    rows = [
        [
            row["fast_weight"],
            row["steps"],
            f"{row['microseconds']:.2f}",
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
        "Median of five readings of one batch without the head. *mixed* gives each token a K of "
        "its own: linear fast weights take it in closed form, mlp ones pay the largest K at every "
        "token. *A decision* is one of the halting network at one layer. The bidirectional LSTM "
        "is the policy that was first proposed for this: it sees later tokens, so it is an "
        "ablation of cost alone, and in no comparison.",
    )
