"""What is raised where a user can do something about it. Imports nothing."""


class InputError(ValueError):
    """What the user gave cannot be used: one line with the thing, the expectation, the remedy.

    The command line prints it alone and exits with 2; a notebook shows it alone as well.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]
