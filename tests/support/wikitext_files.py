"""Small folders in WikiText's format, for tests."""

from pathlib import Path

import numpy as np

WORDS = "alpha beta gamma delta epsilon zeta theta kappa lambda sigma".split()
SIZE = 300


def article(title: str, words: int, seed: int) -> str:
    text = " ".join(np.random.default_rng(seed).choice(WORDS, words).tolist())
    return f" \n = {title} = \n \n {text} . \n \n = = Section = = \n \n {text} , again . \n"


FILES = {
    "train": "".join(article(f"Train {i}", 20 + 7 * i, i) for i in range(8)),
    "valid": "".join(article(f"Valid {i}", 30, 100 + i) for i in range(3)),
    # "zyzzyva" is often there, but only here.
    "test": "".join(article(f"Test {i}", 30, 200 + i) for i in range(3)) + " zyzzyva" * 500 + " \n",
}


def write_files(folder: Path, layout: str = "wiki.{}.tokens", files: dict[str, str] = FILES):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / layout.format(name)).write_text(text, encoding="utf-8")
    return folder


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message
