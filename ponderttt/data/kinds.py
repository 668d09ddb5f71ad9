"""Kinds of text by the endings of files, which endings are of data, and how comments look."""

import re
from pathlib import Path


def _by_ending(table: dict[str, str]) -> dict[str, str]:
    return {ending: kind for kind, endings in table.items() for ending in endings.split()}


LANGUAGES = _by_ending({
    "python": ".py .pyi .pyx .pxd .pyw", "go": ".go", "zig": ".zig", "rust": ".rs",
    "java": ".java", "c": ".c .h", "cpp": ".cc .cpp .cxx .c++ .hpp .hh .hxx .cu .cuh .inl .ino",
    "javascript": ".js .mjs .cjs .jsx", "typescript": ".ts .tsx .mts .cts", "julia": ".jl",
    "r": ".r", "ruby": ".rb", "shell": ".sh .bash .zsh .fish .ksh", "scala": ".scala .sc",
    "kotlin": ".kt .kts", "swift": ".swift", "csharp": ".cs", "php": ".php", "dart": ".dart",
    "haskell": ".hs .lhs", "lua": ".lua", "sql": ".sql", "elm": ".elm", "ada": ".adb .ads",
    "vhdl": ".vhd .vhdl", "verilog": ".v .sv .svh", "perl": ".pl .pm", "elixir": ".ex .exs",
    "nim": ".nim", "tcl": ".tcl", "awk": ".awk", "powershell": ".ps1 .psm1", "cmake": ".cmake",
    "make": ".mk", "crystal": ".cr", "ocaml": ".ml .mli", "fsharp": ".fs .fsi .fsx",
    "pascal": ".pas .pp", "lisp": ".lisp .lsp .el .scm .rkt", "clojure": ".clj .cljs .cljc .edn",
    "assembly": ".asm .s", "erlang": ".erl .hrl", "matlab": ".m", "prolog": ".pro",
    "fortran": ".f .f90 .f95 .f03 .f08 .for", "d": ".d", "groovy": ".groovy .gradle",
    "objective-c": ".mm", "css": ".css .scss .less", "shader": ".glsl .hlsl .wgsl .metal .cl",
    "solidity": ".sol", "protobuf": ".proto", "html": ".html .htm .xhtml .vue .svelte",
    "notebook": ".ipynb",
    "prose": ".md .markdown .rst .txt .text .tex .org .adoc .asciidoc .wiki .rmd .qmd",
})  # fmt: skip
"""Language by file ending; a file with another ending that is text is a `text`."""

DATA_ENDINGS = tuple(
    ".csv .tsv .json .jsonl .ndjson .geojson .xml .yaml .yml .toml .ini .cfg .lock .log .svg .pdf "
    ".ps .eps .map .srt .vtt .bib .po .sum".split()
)
"""Endings of what may well be UTF-8 but was made to be parsed, and is no text to read."""

NO_COMMENTS = frozenset({"prose", "text", "notebook", "uniform"})
"""Languages that are not code: nothing in them is a comment."""

_BLOCK_END = r"[ \t]*(?:\n|\Z)\n*"


def _comments(line: str, *blocks: tuple[str, str]) -> re.Pattern[str]:
    """Whole-line comments at the left margin, and blocks that begin there."""
    found = [rf"(?:^{line}[^\n]*(?:\n|\Z))+\n*"] if line else []
    found += [f"^{start}.*?{end}{_BLOCK_END}" for start, end in blocks]
    return re.compile("|".join(found), re.MULTILINE | re.DOTALL)


_C_BLOCK = (r"/\*", r"\*/")
_SLASHES = _comments("//", _C_BLOCK)
_HASHES = _comments("#")
_DASHES = _comments("--", (r"\{-", r"-\}"), _C_BLOCK)
_STYLES = {
    **dict.fromkeys(
        "python julia r ruby shell perl elixir nim tcl awk cmake make crystal".split(), _HASHES
    ),
    **dict.fromkeys("haskell lua sql elm ada vhdl".split(), _DASHES),
    **dict.fromkeys("lisp clojure assembly".split(), _comments(";")),
    **dict.fromkeys("erlang matlab prolog".split(), _comments("%", _C_BLOCK)),
    **dict.fromkeys("ocaml pascal".split(), _comments("", (r"\(\*", r"\*\)"), (r"\{", r"\}"))),
    "fsharp": _comments("//", (r"\(\*", r"\*\)")),
    "powershell": _comments("#", ("<#", "#>")),
    "fortran": _comments("[!cC*]"),
    "html": _comments("", ("<!--", "-->")),
}


def comments_of(language: str) -> re.Pattern[str]:
    """What finds the comments of a language that stand at the left margin; by default those of C.

    >>> comments_of("haskell").findall("-- one\\n-- two\\nmain = 1\\n")
    ['-- one\\n-- two\\n']
    """
    return _STYLES.get(language, _SLASHES)


def kind_of(name: str) -> str:
    """The language of a file by its name; "" where its ending is one of data.

    >>> kind_of("Main.hs"), kind_of("README"), kind_of("table.csv")
    ('haskell', 'text', '')
    """
    ending = ending_of(name)
    return "" if ending in DATA_ENDINGS else LANGUAGES.get(ending, "text")


def ending_of(name: str) -> str:
    """The ending of a file's name in lower case, with its dot."""
    return Path(name).suffix.lower()
