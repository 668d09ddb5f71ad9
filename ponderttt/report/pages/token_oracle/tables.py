"""The token oracle's page in numbers."""

from ponderttt.report.display import markdown
from ponderttt.report.display.claims import millinats
from ponderttt.result import Result


def options(result: Result) -> markdown.Markdown:
    """How often each K is best, and its mean gain over the reference."""
    config, scalars = result.config, result.scalars
    rows = [
        [str(row["option"]), f"{row['share']:.1%}", millinats(row)]
        for row in result.tables["token_optimal"].to_dict("records")
    ]
    return markdown.join(
        f"**Gain over K4** at one position, in thousandths of a nat over the {config['horizon']} "
        f"predictions from it on: {scalars['positions']} positions of {scalars['texts']} texts "
        f"(95 % intervals by text), after {config['train_steps']} training steps.",
        markdown.table(("steps at the token", "best at", "gain over K4"), rows),
        "Where two K are equally good, the cheaper one is counted as best.",
    )
