"""The commands that make pages and pictures: report, run, book, visualize."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from rich.console import Console

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
        preset: How much to compute: smoke (a tiny random model: an end-to-end check), quick (a real
            model on real code, a quarter of an hour on two cores), cpu (the published pages), gpu.
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


def _console() -> "Console":
    from rich.console import Console

    return Console()
