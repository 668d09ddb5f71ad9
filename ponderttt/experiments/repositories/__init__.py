"""Does a reader of a whole repository go on gaining, and what is it that it learns?"""

from ponderttt.experiments.repositories.config import RepositoriesConfig as RepositoriesConfig
from ponderttt.experiments.repositories.run import run as run

CONFIG = RepositoriesConfig
"""What a parameter file of this experiment must satisfy."""

MEANINGS = {
    "files": "a file of a test repository: its place and its loss under each condition",
    "bins": "a twelfth of a test repository under a condition: tokens, sums of loss and of gain",
    "documents": "a test repository under a condition: loss, gain over the base, and by thirds",
    "gains": "a condition on a source of test repositories, or all code: gain with its interval",
    "positions": "a condition at a twelfth of the test repositories: gain with its interval",
    "paired": "two conditions on the same tokens: the difference of their gains by repository",
    "halves": (
        "the second half of a repository, read after its own first half, after another "
        "repository's, or after nothing"
    ),
    "tokens": "a kind of token, by what of it was read before: its share, loss and gain",
    "rivals": "a window of the base, with and without updates: loss, and FLOPs a token",
    "tuning": "a setting of the continuous cache on training repositories: its gain",
    "gainers": "a token of the explorer's repositories: how often it occurs, and what it gained",
    "explorer": "a unit of a few files: its tokens and their losses",
}
"""What a row of each table is."""
