"""Types of a configuration's fields whose names must mean something; nothing is read or fetched.

What knows the names is imported when one is checked: commands are described without it.
"""

from typing import Annotated

from ponderttt.errors import InputError


def _check_model(name: str) -> None:
    from ponderttt.models.decoder.weights import check_model

    check_model(name)


def _check_source(name: str) -> None:
    from ponderttt.data.sources import find_source

    find_source(name)


def check_split(sources: tuple[str, ...]) -> None:
    """An `InputError` for a folder of one's own, which is one repository, of every split."""
    from ponderttt.data.sources import find_source

    for source in sources:
        if find_source(source)[1].own:
            raise InputError(
                f"{source} is one repository: what is tuned on it cannot be tested on it too; "
                "expected names of sources (the repositories experiment reads a folder)"
            )


def _check_language(name: str) -> None:
    from ponderttt.data.language_files import check_language

    check_language(name)


ModelName = Annotated[str, _check_model]
SourceName = Annotated[str, _check_source]
LanguageName = Annotated[str, _check_language]
