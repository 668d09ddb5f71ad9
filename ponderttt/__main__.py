"""The `ponderttt` command."""

import contextlib
import dataclasses
import functools
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

DESCRIPTION = """PonderTTT: where should a language model's inner steps go, when each costs compute?

Start with `ponderttt report`: it runs every notebook on a small real model and builds the book."""

Names = tyro.conf.Positional[tuple[str, ...]]


def report(
    preset: str = "quick",
    only: tuple[str, ...] = (),
    out: Path | None = None,
    publish: bool = False,
    jobs: int | None = None,
) -> int:
    """Run the notebooks, check every page, build the book and name its page.

    Finished pages whose notebook, parameters and library have not changed are skipped, so a report
    that was killed goes on where it was.

    Args:
        preset: How much to compute: smoke (a tiny random model: does the road hold?), quick (a real
            model on real code, 20 minutes on two cores), cpu (the published pages), gpu.
        only: Names of notebooks; default all of them.
        out: Folder to write to; default .report/<preset>.
        publish: Also write the executed pages and their records into book/.
        jobs: Notebooks that run side by side; default as many as cores and free memory allow, and
            one where pages are published, so that the times they show are undisturbed.
    """
    from ponderttt.report.batch import runner

    return runner.report(preset, only, out, publish, _console(), jobs)


def run(
    names: Names = (), preset: str = "quick", out: Path | None = None, jobs: int | None = None
) -> int:
    """Run notebooks and check their pages, without building the book.

    Args:
        names: Names of notebooks, such as `baselines`; default all of them.
        preset: smoke, quick, cpu or gpu: the folder of params/ to take.
        out: Folder to write to; default .report/<preset>.
        jobs: Notebooks that run side by side; default as many as cores and free memory allow.
    """
    from ponderttt.report.batch import runner

    tasks = runner.plan(preset, names)
    with runner.report_folder(preset, out) as folder:
        passed = runner.run_notebooks(tasks, preset, folder, _console(), jobs)
    print("\n".join(str(folder / "pages" / f"{task.name}.ipynb") for task in tasks))
    return 0 if passed else 1


def render(names: Names = (), book: Path | None = None, publish: bool = False) -> int:
    """Render pages anew from their records, computing nothing.

    Args:
        names: Names of notebooks; default all that the book has records of.
        book: Folder with the records, in results/; default book/.
        publish: Write the pages back into that folder; otherwise they go to .report/render.
    """
    from ponderttt.report.batch import building
    from ponderttt.report.batch.render import render as render_pages

    return render_pages(names, book or building.BOOK, publish, _console())


def book() -> int:
    """Build the book from book/ as it stands, with the published pages, and name its index."""
    from ponderttt.report.batch import building
    from ponderttt.storage import alone_in

    try:
        with alone_in(building.BOOK):
            print(building.build(building.BOOK))
    except building.BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def bench(
    names: Names = (),
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
    peer_python: str | None = None,
) -> int:
    """Measure speed and memory against peers, and say which bars are met.

    Args:
        names: Groups of measurements; default all of them. An unknown name lists them.
        json_: Print a JSON list alone on standard output.
        peer_python: Interpreter with torch and transformers, which are no dependency here
            (`python -m venv peer && peer/bin/pip install torch==2.13.0 transformers`).
    """
    from ponderttt.bench import Options
    from ponderttt.bench import run as run_bench

    rows = run_bench(names, Options(peer_python))
    fields = [dataclasses.asdict(row) for row in rows]
    if json_:
        print(json.dumps(fields, indent=1))
    else:
        _print_bench(fields)
    return 0


def visualize(results_file: Path, output_dir: Path = Path("figures")) -> int:
    """Draw a training run: its history and its actions, each as a picture and as a page.

    Args:
        results_file: The results.json that `ponderttt train-policy` wrote.
        output_dir: Folder for training_history and action_distribution, .png and .html.
    """
    from ponderttt.report.pages import train_policy as policy_training

    for path in policy_training.save(results_file, output_dir):
        print(path)
    return 0


def main(arguments: list[str] | None = None) -> None:
    """Run the command; bad input is one line on standard error and exit code 2."""
    from ponderttt.errors import InputError
    from ponderttt.experiments.convergence_analysis import ConvergenceAnalysisConfig
    from ponderttt.experiments.convergence_analysis import run as run_convergence
    from ponderttt.experiments.full_comparison_suite import SuiteConfig
    from ponderttt.experiments.full_comparison_suite import run as run_suite
    from ponderttt.experiments.oracle_analysis import OracleAnalysisConfig
    from ponderttt.experiments.oracle_analysis import run as run_oracle
    from ponderttt.experiments.train_baseline import TrainBaselineConfig
    from ponderttt.experiments.train_baseline import run as run_train_baseline
    from ponderttt.experiments.train_policy import TrainPolicyConfig
    from ponderttt.experiments.train_policy import run as run_train_policy

    def train_baseline(config: tyro.conf.OmitArgPrefixes[TrainBaselineConfig]) -> int:
        """Read some chunks of text under one fixed action and print the loss of each."""
        run_train_baseline(config)
        return 0

    def train_policy(config: tyro.conf.OmitArgPrefixes[TrainPolicyConfig]) -> int:
        """Train a policy that decides how many steps each unit gets, under a budget."""
        run_train_policy(config)
        return 0

    def convergence(config: tyro.conf.OmitArgPrefixes[ConvergenceAnalysisConfig]) -> int:
        """Follow K inner steps towards their limit, and see what they are worth to what is read."""
        run_convergence(config)
        return 0

    def compare(config: tyro.conf.OmitArgPrefixes[SuiteConfig]) -> int:
        """Train a small model under each way of giving steps to tokens, and compare them."""
        run_suite(config)
        return 0

    def oracle(config: tyro.conf.OmitArgPrefixes[OracleAnalysisConfig]) -> int:
        """Try every number of steps at sampled tokens: what would the best of them gain?"""
        run_oracle(config)
        return 0

    commands: dict[str, Callable[..., int]] = {
        "report": report,
        "run": run,
        "render": render,
        "book": book,
        "bench": bench,
        "compare": compare,
        "convergence": convergence,
        "oracle": oracle,
        "train-baseline": train_baseline,
        "train-policy": train_policy,
        "visualize": visualize,
    }
    try:
        code = _parse(commands, arguments)()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


def _parse(
    commands: dict[str, Callable[..., int]], arguments: list[str] | None
) -> Callable[[], int]:
    """The command with its arguments, yet to be run; what cannot be parsed is one line as well."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                {name: _deferred(command) for name, command in commands.items()},
                prog="ponderttt",
                description=DESCRIPTION,
                args=arguments,
            )
    except SystemExit as end:
        if end.code:
            words = (line.strip("│╭╮╰╯─ ") for line in said.getvalue().splitlines())
            line = " ".join(word for word in words if word)
            # A configuration that refuses a value says all there is to say.
            line = re.sub(
                r"^.*Error parsing __tyro\S*: | Argument helptext:.*(?= For full)", "", line
            )
            print(f"error: {line}", file=sys.stderr)
        raise


def _deferred(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    @functools.wraps(command)
    def build(*values, **options):
        return functools.partial(command, *values, **options)

    return build


def _console():
    from rich.console import Console

    return Console()


def _print_bench(rows: list[dict]) -> None:
    from rich.table import Table

    table = Table("", "name", "value", "unit", "peer", "ratio", "bar", "reason")
    for row in rows:
        numbers = ("–" if row[key] is None else f"{row[key]:.3g}" for key in ("ratio", "bar"))
        mark = "[green]✓[/]" if row["ok"] else "[red]✗[/]"
        value = "–" if row["value"] is None else f"{row['value']:.4g}"
        table.add_row(
            mark, row["name"], value, row["unit"], str(row["peer"]), *numbers, row["reason"]
        )
    _console().print(table)


if __name__ == "__main__":
    main()
