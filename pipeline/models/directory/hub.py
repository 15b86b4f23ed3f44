"""A pipeline on the Hugging Face hub, pinned to a commit: fetched once into the hub's own cache."""

import re
from pathlib import Path

from pipeline.errors import BundleError

_PINNED = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_DATA = ["*.json", "*.txt", "*.model", "*.safetensors"]


def locate_pipeline(given: str) -> Path:
    """The directory of `teacher.pipeline`: a path, or `org/name@COMMIT`, which is fetched.

    Only data are fetched: safetensors, JSON and tokenizer files. A name without its 40-digit commit
    is left as it is, to be refused: a branch would be another teacher tomorrow.

    Raises:
        BundleError: the hub cannot be reached and the cache does not have it.
    """
    pinned = _PINNED.fullmatch(given)
    if pinned is None or Path(given).is_dir():
        return Path(given)
    from huggingface_hub import snapshot_download  # half a second, and only this needs it
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            pinned["id"], revision=pinned["revision"], allow_patterns=_DATA, library_name="stepfold"
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BundleError(
            f"teacher.pipeline: {given} cannot be fetched ({' '.join(str(error).split())[:200]}); "
            "check name and network, or fetch it elsewhere and give its directory"
        ) from None
    return Path(found)
