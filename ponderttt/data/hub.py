"""Files of a model repository on the hub: fetched when it answers, else from its local cache."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ponderttt.checks import said
from ponderttt.errors import InputError

Answer = TypeVar("Answer")

TIMEOUT = 10.0  # seconds for the hub's first answer: a machine without a network fails soon
PATIENCE = 60.0  # seconds in all that a hub with too many requests is waited for
TOO_MANY = 429
BUSY = (TOO_MANY, 500, 502, 503, 504)


def is_hub_id(name: str) -> bool:
    """Whether `name` reads as `owner/repository`, and the hub can have such a name."""
    reads = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name, re.ASCII) is not None
    refused = re.search(r"--|\.\.|(^|/)-|[-.](/|$)|\.git$", name)
    return reads and refused is None and len(name) <= 96


def hub_folder(repository: str, patterns: tuple[str, ...]) -> Path:
    """A folder with the repository's files that match `patterns`.

    A transfer that was cut goes on where it was, and files that came whole are never fetched again.
    Where the hub is out of reach, or too busy for longer than `PATIENCE`, the files are those of
    its local cache. An `InputError` where they are not there, and for an unknown or a gated
    repository.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    def fetch(**options: Any) -> Path:
        return Path(snapshot_download(repository, allow_patterns=list(patterns), **options))

    def ask() -> Path:
        HfApi().model_info(repository, timeout=TIMEOUT)
        return fetch()  # by name, not by commit: or the cache would not know it by name

    try:
        return patiently(ask)
    except GatedRepoError as error:
        raise InputError(
            f"{repository!r} is gated: ask for access at huggingface.co/{repository} and run "
            "`hf auth login`, or name a local folder instead"
        ) from error
    except Exception as failed:  # which class says so depends on the transport in use
        status = status_of(failed)
        if isinstance(failed, HfHubHTTPError) and status not in BUSY:
            raise InputError(
                f"the hub refuses {repository!r} ({said(failed)}); check the name at "
                f"huggingface.co/{repository}, or name a local folder instead"
            ) from failed
        try:
            return fetch(local_files_only=True)
        except Exception:  # not there, or not to be read
            why = f"is too busy (status {status})" if status in BUSY else "is out of reach"
            raise InputError(
                f"the hub {why} and {repository!r} is not in its cache; try again later, name a "
                "local folder with its files, or a model that installs from a wheel (smollm2-135m)"
            ) from failed


def patiently(ask: Callable[[], Answer]) -> Answer:
    """`ask()`, again after the time that the hub asks for, where it has too many requests."""
    waited, wait = 0.0, 1.0
    while True:
        try:
            return ask()
        except Exception as error:
            if status_of(error) != TOO_MANY:
                raise
            wait = max(_retry_after(error), wait)
            if waited + wait > PATIENCE:
                raise
        time.sleep(wait)
        waited, wait = waited + wait, 2 * wait


def status_of(error: Exception) -> int | None:
    """The status of the answer that was an error; None where there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _retry_after(error: Exception) -> float:
    """The seconds that the hub asks to be left alone."""
    asked = error.response.headers.get("Retry-After", "")  # type: ignore[attr-defined]
    return float(asked) if asked.isascii() and asked.isdigit() else 0.0
