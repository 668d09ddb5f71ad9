"""What every command shares: its arguments, its one-line errors, its device and its tables."""

import contextlib
import functools
import io
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ponderttt.checks import check
from ponderttt.errors import InputError
from ponderttt.experiments.config import SCALES, ExperimentConfig, Scale
from ponderttt.machine import Device, check_machine, explain, speak_plainly
from ponderttt.prepare.inputs import SourceName
from ponderttt.storage import as_path, writable_folder, write_text

if TYPE_CHECKING:
    import pandas as pd

    from ponderttt.experiments.scales import Work
    from ponderttt.models.decoder.config import DecoderConfig
    from ponderttt.models.decoder.lm import TransformerLM
    from ponderttt.prepare.recipes import Recipe
    from ponderttt.result import Result


def load_scale(scale: Scale) -> "TransformerLM":
    """The language model of a scale, which is named on standard output.

    GPT-2 from the hub where it can be had; for 125m otherwise SmolLM2-135M from its wheel.
    """
    from ponderttt.models.decoder.lm import TransformerLM

    name = SCALES[scale]().model.model_name
    sentence = f"Loading {name} ({scale})"
    try:
        lm = TransformerLM.from_pretrained(name, dtype="auto")
    except InputError as error:
        if scale != "125m":
            raise
        lm = TransformerLM.from_pretrained("smollm2-135m", dtype="auto")
        sentence = f"{name} is out of reach ({error}); 125m is SmolLM2-135M here"
    print(sentence, flush=True)
    return lm


@dataclass(frozen=True)
class TextCommand:
    """What the commands have in common that read text with one of GPT-2's scales."""

    model_scale: Scale = "125m"
    """GPT-2's scales; offline, 125m is SmolLM2-135M from its wheel."""
    source: SourceName = "stdlib"
    """A named source, or a file or folder of your own, which is read whole: all that is text, but
    for data (.csv, .json, ...). What is left out is counted and said."""
    use_real_data: bool = False
    """Read The Stack from the hub (gated) instead of `source`."""
    output_dir: Path | None = None
    """Where the results go: results.json in <output_dir>/<model_scale>/<action>."""
    device: Device | None = None
    """Backend; the default is whatever JAX finds."""

    @property
    def text(self) -> str:
        """The source that is read."""
        return "the-stack" if self.use_real_data else self.source

    def show_source(self, split: str = "all") -> str:
        """What is read of the source and what is left out, printed before a model is loaded.

        An `InputError` where the machine cannot compute, or the `split` has no text.
        """
        from ponderttt.data.documents import no_text
        from ponderttt.data.sources import describe, open_table, shown_name

        check_machine(self.device)
        record = open_table(self.text)[1]
        said = describe(record)
        print(f"Source {shown_name(self.text)}: {said}", flush=True)
        if split != "all" and not record["kept"][split]:
            raise no_text(shown_name(self.text), split, record)
        return said

    @property
    def scale(self) -> ExperimentConfig:
        """All that `model_scale` says."""
        return SCALES[self.model_scale]()

    def load(self, recipe: "Recipe", work: "Work", *, window: int | None = None) -> "TransformerLM":
        """The language model, on the device; what it needs is printed before it is fetched.

        An `InputError` where the machine cannot hold it.
        """
        from ponderttt.experiments.scales import check_needs, known_shape

        def check(name: str, shape: "DecoderConfig", dtype: str) -> None:
            line = check_needs(name, shape, recipe, work, dtype=dtype, window=window)
            print(line, flush=True)

        model = self.scale.model
        check(model.model_name, known_shape(model.model_name), model.dtype)
        lm = load_scale(self.model_scale)
        if lm.name != model.model_name:
            check(lm.name, lm.config, lm.dtype)
        return lm

    def stated(self, lm: "TransformerLM") -> dict[str, Any]:
        """What results say of how they came about."""
        folder = self.output_dir and str(self.output_dir)
        return asdict(self) | {"output_dir": folder, "model": lm.name, "dtype": lm.dtype}

    def open_folder(self, *parts: str) -> Path | None:
        """Where results go, shown to be writable; None where none are wanted."""
        return self.output_dir and writable_folder(
            self.output_dir.joinpath(self.model_scale, *parts)
        )


def write_results(folder: Path | None, content: dict[str, Any]) -> None:
    """results.json in `folder` (if there is one), which is named on standard output."""
    if folder:
        write_text(folder / "results.json", json.dumps(content, indent=1) + "\n")
        print(f"Results: {folder / 'results.json'}")


def print_tables(
    tables: Mapping[str, "pd.DataFrame"],
    *,
    index: bool = False,
    form: str = ".4f",
    missing: str = "there is nothing to compute it from",
) -> None:
    """Each table under its title; where it has no number, a dash, and in words why (`missing`)."""
    for title, table in tables.items():
        text = table.to_string(index=index, na_rep="–", float_format=lambda x: format(x, form))
        print(f"\n{title}\n{text}")
        if table.isna().any(axis=None):
            print(f"–: {missing}")


@dataclass(frozen=True)
class TableCommand:
    """What the commands have in common that run an experiment and show its tables."""

    output_dir: Path | None = None
    """Where the tables go, as CSV."""
    device: Device | None = None
    """Backend; the default is whatever JAX finds."""

    def ask(self, kind: Any, **options: Any) -> Any:
        """A configuration of this kind, with what the command has for its fields."""
        names = {each.name for each in fields(kind)} & {each.name for each in fields(self)}
        return kind(**options, **{name: getattr(self, name) for name in names})

    def __post_init__(self):
        check(self)
        self.experiment()  # refuses what cannot be used

    def experiment(self) -> Any:
        """The configuration of the experiment that this asks for."""
        raise NotImplementedError

    def compute(self, run: Callable[[], "Result"]) -> "Result":
        """What `run` finds on the device; its tables go into the folder, which is tried first."""
        folder = writable_folder(self.output_dir) if self.output_dir else None
        check_machine(self.device)
        result = run()
        if folder:
            for name, table in result.tables.items():
                table.to_csv(folder / f"{name}.csv", index=False)
            print(f"Tables: {folder}")
        return result


def run_module(run: Callable[..., Any], description: str | None = None) -> None:
    """`execute` with the arguments of this process, for `python -m`."""
    sys.exit(execute(run, description=description))


def execute(
    run: Callable[..., Any],
    arguments: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    description: str | None = None,
) -> int:
    """Call `run` with what the command line says, and give the exit code: what `run` gives, or 0.

    `run` takes a `config` of a frozen dataclass, whose fields are the options, or the options
    themselves. Bad input is one line on standard error and the exit code 2.
    """
    speak_plainly()
    try:
        code = _parse(run, arguments, prog, description)()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ImportError, AttributeError, ValueError) as error:
        if line := explain(error):
            print(f"error: {line}", file=sys.stderr)
            return 2
        raise
    return code if isinstance(code, int) else 0


_PATHS = tyro.constructors.ConstructorRegistry()


@_PATHS.primitive_rule
def _path_rule(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    """Paths as users write them: "" would be the current folder, and ~ a folder of that name."""
    if info.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda said: as_path(said[0], "the path"),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


_SHORTER = {
    # A configuration that refuses a value says all there is to say.
    r"^.*?Error parsing [^-\s]\S*: | Argument helptext:.*(?= For full)": "",
    # Of what may be absent: one line is about that, the last about the value that was given.
    r"^Value error Error parsing (--\S+): (?:no type matching .* Got errors: .*<class '\S+'>: )?": (
        r"\1: "
    ),
}
"""How tyro's errors are said in fewer words."""


def _parse(
    run: Callable[..., Any], arguments: Sequence[str] | None, prog: str | None, text: str | None
) -> Callable[[], Any]:
    """`run` with its arguments, yet to be called; what cannot be parsed is one line as well."""
    config = run.__annotations__.get("config")

    @functools.wraps(run)
    def with_options(*values, **options):
        return functools.partial(run, *values, **options)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _PATHS:
            found = tyro.cli(config or with_options, prog=prog, description=text, args=arguments)
    except SystemExit as end:
        if end.code:
            words = (line.strip("│╭╮╰╯─ ") for line in said.getvalue().splitlines())
            line = " ".join(word for word in words if word)
            for form, kept in _SHORTER.items():
                line = re.sub(form, kept, line)
            print(f"error: {line}", file=sys.stderr)
        raise
    return functools.partial(run, found) if config else found
