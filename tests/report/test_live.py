"""What a person reads: all that they typed, whatever it looks like, on every kind of terminal."""

import io
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from ponderttt import __main__ as command
from ponderttt.bench import command as bench
from ponderttt.report.batch import building, notebooks, runner
from ponderttt.report.batch.live import Live, at_work, say

TYPED = ["reports [x]", "[/]", "[bold]", "[red]a[/red]", "[link=x]", "a [/b] c", ":smile:", "{x}"]


def console(encoding="utf-8", **options):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=file, width=40, **options)


def text(console):
    return console.file.buffer.getvalue().decode(console.file.encoding)


@pytest.mark.parametrize("typed", TYPED)
def test_a_line_holds_what_was_typed(typed):
    out = console()
    say(out, f"before {typed} after " + "long " * 20)
    assert text(out) == f"before {typed} after " + "long " * 20 + "\n"
    with at_work(out, typed):
        pass


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_and_verdicts_hold_what_was_typed(typed, terminal):
    out = console(force_terminal=terminal, color_system=None)
    with Live(out) as live:
        live.show(typed, f"{typed} hidden states", 1, 2)
        live._bars.refresh()
        live.end(typed, True, f"in {typed}")
        live.end(typed, False, f"in {typed}")
    said = text(out)
    assert f"✓ {typed}: in {typed}\n" in said and f"✗ {typed}: in {typed}\n" in said
    assert typed in said.partition("✓")[0] or terminal


def test_a_terminal_without_a_tick_has_words():
    out = console("ascii", force_terminal=True, color_system=None)
    say(out, "a", True)
    say(out, "b", False)
    with at_work(out, "c"), Live(out):
        pass
    assert text(out).startswith("ok a\nfailed b\n")


@pytest.mark.parametrize("typed", TYPED)
def test_a_report_names_its_folder_as_it_was_typed(typed, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "out" / typed.replace("/", "")
    monkeypatch.setattr(runner, "plan", lambda preset, only: [])
    monkeypatch.setattr(runner, "report_folder", lambda preset, out: nullcontext(Path(out)))
    monkeypatch.setattr(runner, "run_notebooks", lambda *_: True)
    monkeypatch.setattr(notebooks, "names", lambda: [typed])
    monkeypatch.setattr(building, "build_report", lambda folder, names: folder / "book" / "a.html")
    monkeypatch.setattr(building, "publish", lambda *_: None)
    monkeypatch.setattr(building, "BOOK", folder / "published")
    tasks = [runner.Task(typed, Path(), {}, "")]
    monkeypatch.setattr(runner, "plan", lambda preset, only: tasks)
    with pytest.raises(SystemExit) as stop:
        command.main(["report", "--out", str(folder), "--publish"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"preset quick: {typed} → {folder}\n" in said
    assert f"published into {folder}/published\n" in said and f"book: {folder}/book" in said


@pytest.mark.parametrize("typed", TYPED)
def test_errors_hold_what_was_typed(typed, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["run", typed],
        ["report", "--preset", typed],
        ["report", "--only", typed],
        ["report", "--jobs", typed],
        ["visualize", "--results-file", f"{typed}.json"],
        ["compare", "--methods", typed],
        ["bench", typed],
        ["render", "--book", typed],
    ):
        with pytest.raises(SystemExit) as stop:
            command.main(arguments)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1
        assert typed in error, arguments


@pytest.mark.parametrize("typed", TYPED)
def test_a_bench_shows_a_reason_as_it_is(typed, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    keys = ("name", "value", "unit", "peer", "ratio", "bar", "reason")
    row = dict.fromkeys(keys, None) | {"name": "a", "unit": "s", "reason": f"no peer {typed}"}
    bench._print([row | {"ok": True}, row | {"ok": False}])
    assert capsys.readouterr().out.count(f"no peer {typed}") == 2
