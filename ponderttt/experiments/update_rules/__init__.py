"""What should learn, by which rule, at which rate, and how often, beyond the full window?"""

from ponderttt.experiments.update_rules.config import UpdateRulesConfig as UpdateRulesConfig
from ponderttt.experiments.update_rules.run import run as run

CONFIG = UpdateRulesConfig
"""What a parameter file of this experiment must satisfy."""

MEANINGS = {
    "recipes": "a recipe that was tried: what it is, and what it costs beside a forward pass",
    "trials": (
        "a recipe on a training or validation repository: loss, gain over the base at the full "
        "window, by thirds, and the unit at which its loss was no longer finite"
    ),
    "search": "a recipe on the training or validation repositories: gain with its interval",
    "bins": "a twelfth of a test repository under a recipe: tokens, sums of loss and of gain",
    "documents": "a test repository under a recipe: loss, gain, and gain by thirds",
    "gains": "a recipe on a source of test repositories, or on all code: gain with its interval",
    "positions": "a recipe at a twelfth of the test repositories: gain with its interval",
    "stability": "a recipe on the test repositories: how many lose, how much, how many diverged",
    "seconds": "a recipe: seconds a token of reading with it, and of the base's forward",
}
"""What a row of each table is."""
