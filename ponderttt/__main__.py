"""The `ponderttt` command: what it knows, and where that is.

Nothing is imported but what the command that is asked for needs; `--help` needs nothing.
"""

import sys
import textwrap
from importlib import import_module
from typing import NamedTuple

DESCRIPTION = """PonderTTT: where should a language model's inner steps go, when each costs compute?

Start with `ponderttt report`: it runs every notebook on a small real model and builds the book."""


class Command(NamedTuple):
    """The function that runs a command, as module:name, and what it does."""

    target: str
    summary: str


COMMANDS = {
    "report": Command(
        "ponderttt.report.command:report",
        "Run the notebooks, check every page, build the book and name its page. Finished pages "
        "are skipped: a report that was killed goes on where it was.",
    ),
    "run": Command(
        "ponderttt.report.command:run",
        "Run notebooks and check their pages, without building the book.",
    ),
    "render": Command(
        "ponderttt.report.command:render",
        "Render pages anew from their records, computing nothing.",
    ),
    "book": Command(
        "ponderttt.report.command:book",
        "Build the book from book/ as it stands, with the published pages, and name its index.",
    ),
    "bench": Command(
        "ponderttt.bench.command:bench",
        "Measure speed and memory against peers, and say which bars are met.",
    ),
    "compare": Command(
        "ponderttt.experiments.full_comparison_suite:run",
        "Train a small transformer with TTT layers under each method, and compare them.",
    ),
    "convergence": Command(
        "ponderttt.experiments.convergence_analysis:run",
        "Compare inner steps by their distance to the limit and by the loss of what is read next.",
    ),
    "oracle": Command(
        "ponderttt.experiments.oracle_analysis:run",
        "Try every number of steps at sampled tokens: what would the best of them gain?",
    ),
    "train-baseline": Command(
        "ponderttt.experiments.train_baseline:run",
        "Read chunks of text under one fixed action and print the loss of each, scored first.",
    ),
    "train-policy": Command(
        "ponderttt.experiments.train_policy:run",
        "Train a policy that decides how many steps each unit gets, under a budget.",
    ),
    "visualize": Command(
        "ponderttt.report.command:visualize",
        "Draw a training run: its history and its actions, each as a picture and as a page.",
    ),
}

CHECKOUT_ONLY = ("report", "run", "render", "book")
"""Commands that work on notebooks/, params/ and book/, which a wheel does not have."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command; bad input is one line on standard error and exit code 2."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("-h", "--help"):
        print(_overview())
        sys.exit(0)
    if name not in COMMANDS:
        given = f"unknown command {name!r}" if name else "no command"
        known = ", ".join(COMMANDS)
        print(f"error: {given}: expected one of {known}; see ponderttt --help", file=sys.stderr)
        sys.exit(2)
    sys.exit(_run(name, rest))


def _run(name: str, arguments: list[str]) -> int:
    """The exit code of a command; what keeps it from being imported is one line as well."""
    from ponderttt.machine import explain
    from ponderttt.storage import in_checkout

    asked_for_help = {"-h", "--help"} & set(arguments)
    if name in CHECKOUT_ONLY and not in_checkout() and not asked_for_help:
        others = ", ".join(each for each in COMMANDS if each not in CHECKOUT_ONLY)
        print(
            f"error: ponderttt {name} needs the checkout: notebooks/, params/ and book/ are not "
            f"installed; run it there, after `pip install -e .`; here there are the library and "
            f"{others}",
            file=sys.stderr,
        )
        return 2
    module, function = COMMANDS[name].target.split(":")
    try:
        from ponderttt.experiments.command import execute

        run = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        if line := explain(error):
            print(f"error: {line}", file=sys.stderr)
            return 2
        raise
    return execute(run, arguments, prog=f"ponderttt {name}")


def _overview() -> str:
    """What `--help` says: every command with a sentence."""
    width = 2 + max(map(len, COMMANDS))
    lines = [
        textwrap.fill(
            each.summary,
            width=90,
            initial_indent=f"  {name:{width}}",
            subsequent_indent=" " * (2 + width),
        )
        for name, each in COMMANDS.items()
    ]
    usage = "usage: ponderttt COMMAND [OPTIONS]\n       ponderttt COMMAND --help"
    needs = f"{', '.join(CHECKOUT_ONLY)}: in the checkout only, where the notebooks are."
    return "\n".join([usage, "", DESCRIPTION, "", "commands:", *lines, "", needs])


if __name__ == "__main__":
    main()
