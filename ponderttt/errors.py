"""What is raised where a user can do something about it. Imports nothing."""


class InputError(ValueError):
    """What the user gave cannot be used: one line with the thing, the expectation, the remedy.

    The command line prints it alone and exits with 2.
    """
