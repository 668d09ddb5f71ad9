"""What a person sees while notebooks run: a line for each that is at work, and one when it ends."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.status import Status
from rich.text import Text

from ponderttt.machine import can_show


def say(console: Console, text: str, passed: bool | None = None) -> None:
    """A line as it is: no markup in what a user typed, not broken, a mark where it is a verdict."""
    line = Text(text)
    if passed is not None:
        marks = ("✓", "✗") if can_show("✓✗", console.file) else ("ok", "failed")
        line = Text.assemble((marks[not passed], "green" if passed else "red"), " ", text)
    console.print(line, soft_wrap=True, highlight=False)


def at_work(console: Console, text: str) -> Status:
    """A spinner with `text` while a block lasts, on a terminal."""
    return console.status(Text(text), spinner="dots" if can_show("⠋", console.file) else "line")


class Live:
    """A bar a notebook on a terminal; elsewhere one line each time that another stage begins."""

    def __init__(self, console: Console):
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[label]}", markup=False),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, str] = {}

    def __enter__(self) -> "Live":
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def show(self, name: str, label: str, done: int, total: int) -> None:
        """The notebook `name` is at `done` of `total` of the stage `label`."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, label="", total=1)
        self._bars.update(
            self._tasks[name], label=f"{label} {done}/{total}", completed=done, total=total
        )
        if label != self._stages.get(name) and not self.console.is_terminal:
            say(self.console, f"  {name}: {label}")
        self._stages[name] = label

    def end(self, name: str, passed: bool, said: str) -> None:
        """The notebook `name` is done with; `said` is what came of it."""
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
        say(self.console, f"{name}: {said}", passed)
